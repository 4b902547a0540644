import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { AuditService } from './audit.service.js';
import { AuditEventPage, AuditEventView } from './dto/audit-event.view.js';
import { ChainVerdictView } from './dto/chain-verdict.view.js';
import { ListAuditQuery } from './dto/list-audit.query.js';
import { VerifyAuditQuery } from './dto/verify-audit.query.js';

/** The audit log over HTTP: search, read, verify. */
@ApiTags('Audit')
@Controller('audit')
@RequireScopes('audit:read')
export class AuditController {
  constructor(private readonly audit: AuditService) {}

  @Get()
  @ApiOperation({ summary: 'List audit events, newest first' })
  @ApiOkResponse({ type: AuditEventPage })
  @ApiProblemResponses(400, 401, 403)
  list(@Caller() caller: Principal, @Query() query: ListAuditQuery): Promise<AuditEventPage> {
    refuseReversed(query.from, query.to, '/to', (text) => Date.parse(text));
    const { limit, cursor, organizationId, ...filter } = query;
    return this.audit.list(organizationFor(caller, organizationId), filter, limit, cursor);
  }

  @Get('verify')
  @ApiOperation({ summary: 'Verify the hash chain, computing every hash anew' })
  @ApiOkResponse({ type: ChainVerdictView })
  @ApiProblemResponses(400, 401, 403)
  verify(@Caller() caller: Principal, @Query() query: VerifyAuditQuery): Promise<ChainVerdictView> {
    refuseReversed(query.fromSequence, query.toSequence, '/toSequence', (sequence) => sequence);
    return this.audit.verify(organizationFor(caller, query.organizationId), query.fromSequence, query.toSequence);
  }

  @Get(':eventId')
  @ApiOperation({ summary: 'Read one audit event' })
  @ApiOkResponse({ type: AuditEventView })
  @ApiProblemResponses(401, 403, 404)
  read(@Caller() caller: Principal, @Param('eventId') eventId: string): Promise<AuditEventView> {
    return this.audit.read(caller, eventId);
  }
}

function refuseReversed<T>(from: T | undefined, to: T | undefined, pointer: string, order: (bound: T) => number): void {
  if (from !== undefined && to !== undefined && order(from) > order(to)) {
    throw problems.validationFailed.withErrors({ pointer, detail: 'is before the beginning of the range' });
  }
}
