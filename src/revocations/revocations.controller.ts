import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { RevocationOutcomeView } from './dto/revocation-outcome.view.js';
import { RevocationBody } from './dto/revocation.body.js';
import { RevocationsService } from './revocations.service.js';

/** The revocation of tokens in bulk over HTTP. */
@ApiTags('Revocations')
@Controller('revocations')
export class RevocationsController {
  constructor(private readonly revocations: RevocationsService) {}

  @Post()
  @HttpCode(200)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Revoke what a credential, a key, a partner, an agent or an organization has earned' })
  @ApiOkResponse({ type: RevocationOutcomeView })
  @ApiProblemResponses(400, 401, 403, 404, 413, 415, 503)
  revoke(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Body() body: RevocationBody,
  ): Promise<RevocationOutcomeView> {
    return this.revocations.revoke(caller, origin, body);
  }
}
