import { Column, Entity, PrimaryColumn } from 'typeorm';

/** Where an agent runs. */
export const AGENT_ENVIRONMENTS = ['development', 'staging', 'production'] as const;
export type AgentEnvironment = (typeof AGENT_ENVIRONMENTS)[number];

/** The states of an agent; `decommissioned` is terminal. */
export const AGENT_STATUSES = ['active', 'suspended', 'decommissioned'] as const;
export type AgentStatus = (typeof AGENT_STATUSES)[number];

/** An identity: its `agentId` is the OAuth `client_id` and the `sub` of its tokens. */
@Entity({ name: 'agents' })
export class AgentEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @PrimaryColumn({ name: 'agent_id', type: 'uuid' })
  agentId!: string;

  @Column({ type: 'text' })
  name!: string;

  @Column({ type: 'text', nullable: true })
  description!: string | null;

  @Column({ type: 'text', nullable: true })
  owner!: string | null;

  @Column({ type: 'text', nullable: true })
  type!: string | null;

  @Column({ type: 'text', nullable: true })
  version!: string | null;

  @Column({ type: 'text', nullable: true })
  environment!: AgentEnvironment | null;

  @Column({ type: 'text', array: true })
  capabilities!: string[];

  @Column({ type: 'jsonb' })
  labels!: Record<string, string>;

  @Column({ type: 'text', array: true })
  scopes!: string[];

  @Column({ name: 'token_ttl_seconds', type: 'integer', nullable: true })
  tokenTtlSeconds!: number | null;

  @Column({ type: 'text' })
  status!: AgentStatus;

  /** Counts the acts that touched the agent's tokens; a token carries the count it was issued under. */
  @Column({ type: 'integer' })
  generation!: number;

  /** Tokens of an earlier generation are dead. */
  @Column({ name: 'valid_from_generation', type: 'integer' })
  validFromGeneration!: number;

  /** Scopes that were taken away: tokens that hold one and are older than the generation named are dead. */
  @Column({ name: 'scope_removals', type: 'jsonb' })
  scopeRemovals!: Record<string, number>;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
