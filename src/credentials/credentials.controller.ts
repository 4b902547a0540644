import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import {
  ApiBody,
  ApiCreatedResponse,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiTags,
} from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { PageQuery } from '../platform/http/page.js';
import { Caller, Origin, RequireScopes, RequireScopesOrClient } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { CredentialsService } from './credentials.service.js';
import { CreateCredentialBody, RevokeCredentialQuery, RotateCredentialBody } from './dto/credential.bodies.js';
import { CredentialPage, IssuedCredentialView } from './dto/credential.view.js';

/** The client secrets of an agent over HTTP: make, list, rotate, revoke. */
@ApiTags('Credentials')
@Controller('agents/:agentId/credentials')
export class CredentialsController {
  constructor(private readonly credentials: CredentialsService) {}

  @Post()
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Generate a client secret, shown this once' })
  @ApiBody({ type: CreateCredentialBody, required: false })
  @ApiCreatedResponse({ type: IssuedCredentialView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Body() body?: CreateCredentialBody,
  ): Promise<IssuedCredentialView> {
    return this.credentials.create(caller, origin, agentId, body ?? {});
  }

  @Get()
  @RequireScopes('agents:read')
  @ApiOperation({ summary: "List an agent's secrets, newest first; never a secret itself" })
  @ApiOkResponse({ type: CredentialPage })
  @ApiProblemResponses(400, 401, 403, 404)
  list(
    @Caller() caller: Principal,
    @Param('agentId') agentId: string,
    @Query() query: PageQuery,
  ): Promise<CredentialPage> {
    return this.credentials.list(caller, agentId, query.limit, query.cursor);
  }

  @Post(':credentialId/rotate')
  @RequireScopesOrClient(['agents:write'], [])
  @ApiOperation({
    summary: 'Replace a secret by a new one',
    description: 'Takes a Bearer token with agents:write, or client authentication with the very secret.',
  })
  @ApiBody({ type: RotateCredentialBody, required: false })
  @ApiCreatedResponse({ type: IssuedCredentialView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  rotate(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Param('credentialId') credentialId: string,
    @Body() body?: RotateCredentialBody,
  ): Promise<IssuedCredentialView> {
    return this.credentials.rotate(caller, origin, agentId, credentialId, body ?? {});
  }

  @Delete(':credentialId')
  @HttpCode(204)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Revoke a secret, and the tokens that it earned' })
  @ApiNoContentResponse()
  @ApiProblemResponses(400, 401, 403, 404, 409)
  revoke(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Param('credentialId') credentialId: string,
    @Query() query: RevokeCredentialQuery,
  ): Promise<void> {
    return this.credentials.revoke(caller, origin, agentId, credentialId, query.keepTokens === 'true');
  }
}
