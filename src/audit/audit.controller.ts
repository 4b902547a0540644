import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { AuditService } from './audit.service.js';
import { AuditEventPage, AuditEventView } from './dto/audit-event.view.js';
import { ListAuditQuery } from './dto/list-audit.query.js';

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
    refuseReversed(query.from, query.to);
    const { limit, cursor, organizationId, ...filter } = query;
    return this.audit.list(organizationFor(caller, organizationId), filter, limit, cursor);
  }

  @Get(':eventId')
  @ApiOperation({ summary: 'Read one audit event' })
  @ApiOkResponse({ type: AuditEventView })
  @ApiProblemResponses(401, 403, 404)
  read(@Caller() caller: Principal, @Param('eventId') eventId: string): Promise<AuditEventView> {
    return this.audit.read(caller, eventId);
  }
}

function refuseReversed(from: string | undefined, to: string | undefined): void {
  if (from !== undefined && to !== undefined && Date.parse(from) > Date.parse(to)) {
    throw problems.validationFailed.withErrors({ pointer: '/to', detail: 'is before the beginning of the range' });
  }
}
