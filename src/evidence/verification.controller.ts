import { Body, Controller, Get, HttpCode, Post, Query, Req } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { problems } from '../platform/kernel/problem.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { ChainVerdictView } from './dto/chain-verdict.view.js';
import { VerifyAuditQuery, VerifyKeptBody } from './dto/verify-audit.query.js';
import { VerificationService } from './verification.service.js';

/** How long a verification may take, in milliseconds: tens of millions of events. */
const MAX_SILENCE_MS = 3_600_000;

/** The verification of a chain over HTTP. */
@ApiTags('Audit')
@Controller('audit/verify')
@RequireScopes('audit:read')
export class VerificationController {
  constructor(private readonly verification: VerificationService) {}

  @Get()
  @ApiOperation({ summary: 'Verify the chain, computing every hash anew, against its checkpoints' })
  @ApiOkResponse({ type: ChainVerdictView })
  @ApiProblemResponses(400, 401, 403, 404, 429, 503)
  verify(
    @Caller() caller: Principal,
    @Query() query: VerifyAuditQuery,
    @Req() request: FastifyRequest,
  ): Promise<ChainVerdictView> {
    allowSilence(request);
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
  @ApiProblemResponses(400, 401, 403, 404, 413, 415, 429, 503)
  verifyKept(
    @Caller() caller: Principal,
    @Body() body: VerifyKeptBody,
    @Req() request: FastifyRequest,
  ): Promise<ChainVerdictView> {
    allowSilence(request);
    return this.verification.verifyKept(organizationFor(caller, body.organizationId), body.checkpoint);
  }
}

/** A long chain takes longer than a connection may else be silent. */
function allowSilence(request: FastifyRequest): void {
  request.raw.socket?.setTimeout(MAX_SILENCE_MS);
}
