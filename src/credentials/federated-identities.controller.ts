import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiCreatedResponse, ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { PageQuery } from '../platform/http/page.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { FederatedIdentitiesService } from './federated-identities.service.js';
import { RevokeCredentialQuery } from './dto/credential.bodies.js';
import { CreateFederatedIdentityBody } from './dto/federated-identity.bodies.js';
import { FederatedIdentityPage, FederatedIdentityView } from './dto/federated-identity.view.js';

/** The federated identities of an agent over HTTP. */
@ApiTags('Credentials')
@Controller('agents/:agentId/federated-identities')
export class FederatedIdentitiesController {
  constructor(private readonly identities: FederatedIdentitiesService) {}

  @Post()
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Let a subject at a federation partner prove an agent' })
  @ApiCreatedResponse({ type: FederatedIdentityView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Body() body: CreateFederatedIdentityBody,
  ): Promise<FederatedIdentityView> {
    return FederatedIdentityView.of(await this.identities.create(caller, origin, agentId, body));
  }

  @Get()
  @RequireScopes('agents:read')
  @ApiOperation({ summary: "List an agent's federated identities, newest first" })
  @ApiOkResponse({ type: FederatedIdentityPage })
  @ApiProblemResponses(400, 401, 403, 404)
  async list(
    @Caller() caller: Principal,
    @Param('agentId') agentId: string,
    @Query() query: PageQuery,
  ): Promise<FederatedIdentityPage> {
    const page = await this.identities.list(caller, agentId, query.limit, query.cursor);
    return { data: page.data.map((credential) => FederatedIdentityView.of(credential)), nextCursor: page.nextCursor };
  }

  @Delete(':credentialId')
  @HttpCode(204)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Take an identity from an agent, and the tokens that it earned' })
  @ApiNoContentResponse()
  @ApiProblemResponses(400, 401, 403, 404, 409)
  revoke(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Param('credentialId') credentialId: string,
    @Query() query: RevokeCredentialQuery,
  ): Promise<void> {
    return this.identities.revoke(caller, origin, agentId, credentialId, query.keepTokens === 'true');
  }
}
