import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { AGENT_ENVIRONMENTS, AGENT_STATUSES, type AgentEntity } from '../agent.entity.js';

/** An agent as callers see it. */
export class AgentView {
  @ApiProperty({ format: 'uuid', description: 'Also its OAuth client_id and the sub of its tokens.' })
  readonly agentId!: string;

  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ example: 'invoice-classifier' })
  readonly name!: string;

  @ApiProperty({ type: String, nullable: true })
  readonly description!: string | null;

  @ApiProperty({ type: String, nullable: true })
  readonly owner!: string | null;

  @ApiProperty({ type: String, nullable: true })
  readonly type!: string | null;

  @ApiProperty({ type: String, nullable: true })
  readonly version!: string | null;

  @ApiProperty({ enum: AGENT_ENVIRONMENTS, nullable: true })
  readonly environment!: string | null;

  @ApiProperty({ type: [String] })
  readonly capabilities!: readonly string[];

  @ApiProperty({ type: 'object', additionalProperties: { type: 'string' } })
  readonly labels!: Readonly<Record<string, string>>;

  @ApiProperty({ type: [String], example: ['agents:read'] })
  readonly scopes!: readonly string[];

  @ApiProperty({ type: Number, nullable: true })
  readonly tokenTtlSeconds!: number | null;

  @ApiProperty({ enum: AGENT_STATUSES })
  readonly status!: string;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({ format: 'date-time' })
  readonly updatedAt!: string;

  /** What callers may see of an agent. */
  static of(agent: AgentEntity): AgentView {
    return {
      agentId: agent.agentId,
      organizationId: agent.organizationId,
      name: agent.name,
      description: agent.description,
      owner: agent.owner,
      type: agent.type,
      version: agent.version,
      environment: agent.environment,
      capabilities: agent.capabilities,
      labels: agent.labels,
      scopes: agent.scopes,
      tokenTtlSeconds: agent.tokenTtlSeconds,
      status: agent.status,
      createdAt: agent.createdAt.toISOString(),
      updatedAt: agent.updatedAt.toISOString(),
    };
  }
}

/** A page of agents. */
export class AgentPage extends Page<AgentView> {
  @ApiProperty({ type: [AgentView] })
  declare readonly data: readonly AgentView[];
}

/** The answer to revoking all tokens. */
export class TokensRevokedView {
  @ApiProperty({ format: 'date-time', description: 'Tokens issued before the answer are dead.' })
  readonly revokedBefore!: string;
}
