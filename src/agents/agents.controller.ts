import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { AgentsService } from './agents.service.js';
import { AgentPage, AgentView, TokensRevokedView } from './dto/agent.view.js';
import { CreateAgentBody } from './dto/create-agent.body.js';
import { ListAgentsQuery } from './dto/list-agents.query.js';
import { UpdateAgentBody } from './dto/update-agent.body.js';

/** Agent identities over HTTP: register, read, change, suspend, decommission. */
@ApiTags('Agents')
@Controller('agents')
export class AgentsController {
  constructor(private readonly agents: AgentsService) {}

  @Post()
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Register an agent' })
  @ApiCreatedResponse({ type: AgentView, headers: { Location: { schema: { type: 'string' } } } })
  @ApiProblemResponses(400, 401, 403, 404, 413, 415)
  async create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Body() body: CreateAgentBody,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<AgentView> {
    const agent = await this.agents.create(caller, origin, body);
    void reply.header('Location', `/api/v1/agents/${agent.agentId}`);
    return AgentView.of(agent);
  }

  @Get()
  @RequireScopes('agents:read')
  @ApiOperation({ summary: 'List agents, newest first' })
  @ApiOkResponse({ type: AgentPage })
  @ApiProblemResponses(400, 401, 403)
  async list(@Caller() caller: Principal, @Query() query: ListAgentsQuery): Promise<AgentPage> {
    const { limit, cursor, organizationId, label = [], ...filter } = query;
    const labels = label.map(parseLabel);
    const page = await this.agents.list(caller, organizationId, { ...filter, labels }, limit, cursor);
    return { data: page.data.map((agent) => AgentView.of(agent)), nextCursor: page.nextCursor };
  }

  @Get(':agentId')
  @RequireScopes('agents:read')
  @ApiOperation({ summary: 'Read an agent' })
  @ApiOkResponse({ type: AgentView })
  @ApiProblemResponses(401, 403, 404)
  async read(@Caller() caller: Principal, @Param('agentId') agentId: string): Promise<AgentView> {
    return AgentView.of(await this.agents.read(caller, agentId));
  }

  @Patch(':agentId')
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Change an agent; tokens that hold a scope taken away become inactive' })
  @ApiOkResponse({ type: AgentView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async update(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
    @Body() body: UpdateAgentBody,
  ): Promise<AgentView> {
    return AgentView.of(await this.agents.update(caller, origin, agentId, body));
  }

  @Post(':agentId/suspend')
  @HttpCode(200)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Suspend an agent: it gets no tokens, and those it has are dead' })
  @ApiOkResponse({ type: AgentView })
  @ApiProblemResponses(401, 403, 404, 409)
  async suspend(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
  ): Promise<AgentView> {
    return AgentView.of(await this.agents.suspend(caller, origin, agentId));
  }

  @Post(':agentId/reactivate')
  @HttpCode(200)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Let a suspended agent work again' })
  @ApiOkResponse({ type: AgentView })
  @ApiProblemResponses(401, 403, 404, 409)
  async reactivate(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
  ): Promise<AgentView> {
    return AgentView.of(await this.agents.reactivate(caller, origin, agentId));
  }

  @Delete(':agentId')
  @HttpCode(204)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Decommission an agent for good; its record stays readable' })
  @ApiNoContentResponse()
  @ApiProblemResponses(401, 403, 404, 409)
  decommission(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
  ): Promise<void> {
    return this.agents.decommission(caller, origin, agentId);
  }

  @Post(':agentId/revoke-tokens')
  @HttpCode(200)
  @RequireScopes('agents:write')
  @ApiOperation({ summary: 'Revoke all tokens that an agent has been issued so far' })
  @ApiOkResponse({ type: TokensRevokedView })
  @ApiProblemResponses(401, 403, 404)
  revokeTokens(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('agentId') agentId: string,
  ): Promise<TokensRevokedView> {
    return this.agents.revokeTokens(caller, origin, agentId);
  }
}

function parseLabel(label: string): { key: string; value: string | null } {
  const colon = label.indexOf(':');
  return colon === -1 ? { key: label, value: null } : { key: label.slice(0, colon), value: label.slice(colon + 1) };
}
