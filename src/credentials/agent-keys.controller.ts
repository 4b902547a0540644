import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiCreatedResponse, ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { PageQuery } from '../platform/http/page.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { AgentKeysService } from './agent-keys.service.js';
import { RevokeCredentialQuery } from './dto/credential.bodies.js';
import { CreateKeyBody } from './dto/key.bodies.js';
import { KeyPage, KeyView } from './dto/key.view.js';

/** The public keys of an agent over HTTP. */
@ApiTags('Credentials')
@Controller('agents/:agentId/keys')
export class AgentKeysController {
  constructor(private readonly keys: AgentKeysService) {}

  @Post()
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Give an agent a public key, for private_key_jwt' })
  @ApiCreatedResponse({ type: KeyView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Body() body: CreateKeyBody,
  ): Promise<KeyView> {
    return KeyView.of(await this.keys.create(caller, origin, agentId, body));
  }

  @Get()
  @RequireScopes('agents:read')
  @ApiOperation({ summary: "List an agent's public keys, newest first" })
  @ApiOkResponse({ type: KeyPage })
  @ApiProblemResponses(400, 401, 403, 404)
  async list(
    @Caller() caller: Principal,
    @Param('agentId') agentId: string,
    @Query() query: PageQuery,
  ): Promise<KeyPage> {
    const page = await this.keys.list(caller, agentId, query.limit, query.cursor);
    return { data: page.data.map((credential) => KeyView.of(credential)), nextCursor: page.nextCursor };
  }

  @Delete(':credentialId')
  @HttpCode(204)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Take a key from an agent, and the tokens that it earned' })
  @ApiNoContentResponse()
  @ApiProblemResponses(400, 401, 403, 404, 409)
  revoke(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Param('credentialId') credentialId: string,
    @Query() query: RevokeCredentialQuery,
  ): Promise<void> {
    return this.keys.revoke(caller, origin, agentId, credentialId, query.keepTokens === 'true');
  }
}
