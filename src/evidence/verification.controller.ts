import { Body, Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { ChainVerdictView } from './dto/chain-verdict.view.js';
import { VerifyAuditQuery, VerifyKeptBody } from './dto/verify-audit.query.js';
import { VerificationService } from './verification.service.js';

@ApiTags('Audit')
@Controller('audit/verify')
@RequireScopes('audit:read')
export class VerificationController {
  constructor(private readonly verification: VerificationService) {}

  @Get()
  @ApiOperation({ summary: 'Verify the chain, computing every hash anew, against its checkpoints' })
  @ApiOkResponse({ type: ChainVerdictView })
  @ApiProblemResponses(400, 401, 403, 404, 429, 503)
  verify(@Caller() caller: Principal, @Query() query: VerifyAuditQuery): Promise<ChainVerdictView> {
    const { fromSequence, toSequence } = query;
    if (fromSequence !== undefined && toSequence !== undefined && fromSequence > toSequence) {
      throw problems.validationFailed.withErrors({
        pointer: '/toSequence',
        detail: 'is before the beginning of the range',
      });
    }
    return this.verification.verify(organizationFor(caller, query.organizationId), fromSequence, toSequence);
  }

  @Post()
  @HttpCode(200)
  @ApiOperation({ summary: 'Verify the chain against a checkpoint that you kept' })
  @ApiOkResponse({ type: ChainVerdictView })
  @ApiProblemResponses(400, 401, 403, 404, 415, 429, 503)
  verifyKept(@Caller() caller: Principal, @Body() body: VerifyKeptBody): Promise<ChainVerdictView> {
    return this.verification.verifyKept(organizationFor(caller, body.organizationId), body.checkpoint);
  }
}
