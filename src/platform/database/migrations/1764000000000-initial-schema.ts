import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Tenants, agents, credentials, revocations, keys and the audit chain. */
export class InitialSchema1764000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(TIERS_AND_ORGANIZATIONS);
    await runner.query(AGENTS_AND_CREDENTIALS);
    await runner.query(KEYS);
    await runner.query(AUDIT);
  }

  async down(): Promise<void> {
    // Migrations only go forward; a database is taken back by restoring a backup.
    throw new Error('migrations only go forward');
  }
}

/**
 * A null limit is "no limit" in `tiers` and "the tier's own" in `organizations`. `generation` counts the acts that kill
 * all of an organization's tokens at once. What every issuance writes (chain head, quota) stands in a narrow row of its
 * own with room for in-page updates; its lock is the lock of the organization.
 */
const TIERS_AND_ORGANIZATIONS = `
CREATE TABLE tiers (
  name text PRIMARY KEY,
  tokens_per_month bigint,
  agents bigint,
  audit_retention_days bigint,
  webhooks bigint
);
INSERT INTO tiers VALUES
  ('free', 10000, 100, 90, 5),
  ('pro', 1000000, 10000, 365, 50),
  ('enterprise', NULL, NULL, NULL, NULL);

CREATE TABLE organizations (
  organization_id uuid PRIMARY KEY,
  name text NOT NULL,
  slug text NOT NULL CONSTRAINT organizations_slug_key UNIQUE,
  tier text NOT NULL REFERENCES tiers (name),
  status text NOT NULL CHECK (status IN ('active', 'suspended')),
  is_operator boolean NOT NULL DEFAULT false,
  generation integer NOT NULL DEFAULT 1,
  limit_tokens_per_month bigint CHECK (limit_tokens_per_month >= 0),
  limit_agents bigint CHECK (limit_agents >= 0),
  limit_audit_retention_days bigint CHECK (limit_audit_retention_days >= 0),
  limit_webhooks bigint CHECK (limit_webhooks >= 0),
  created_at timestamptz(3) NOT NULL,
  updated_at timestamptz(3) NOT NULL
);
CREATE UNIQUE INDEX organizations_one_operator ON organizations (is_operator) WHERE is_operator;

CREATE TABLE organization_ledgers (
  organization_id uuid PRIMARY KEY REFERENCES organizations (organization_id),
  sequence bigint NOT NULL DEFAULT 0,
  head_hash bytea NOT NULL,
  quota_month integer NOT NULL DEFAULT 0,
  tokens_used bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
`;

/**
 * An agent's `generation` counts the acts that touch its tokens; those from before `valid_from_generation` are dead,
 * and so are those that hold a scope of `scope_removals` and are older than the generation named there. A credential's
 * `generation` is compared as it stands.
 */
const AGENTS_AND_CREDENTIALS = `
CREATE TABLE agents (
  organization_id uuid NOT NULL REFERENCES organizations (organization_id),
  agent_id uuid NOT NULL CONSTRAINT agents_agent_id_key UNIQUE,
  name text NOT NULL,
  description text,
  owner text,
  type text,
  version text,
  environment text CHECK (environment IN ('development', 'staging', 'production')),
  capabilities text[] NOT NULL DEFAULT '{}',
  labels jsonb NOT NULL DEFAULT '{}',
  scopes text[] NOT NULL DEFAULT '{}',
  token_ttl_seconds integer,
  status text NOT NULL CHECK (status IN ('active', 'suspended', 'decommissioned')),
  generation integer NOT NULL DEFAULT 1,
  valid_from_generation integer NOT NULL DEFAULT 1,
  scope_removals jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz(3) NOT NULL,
  updated_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, agent_id)
);
CREATE INDEX agents_newest_first ON agents (organization_id, created_at DESC, agent_id DESC);
CREATE INDEX agents_operators ON agents (organization_id) WHERE 'admin:orgs' = ANY (scopes);
CREATE INDEX agents_labels ON agents USING gin (labels jsonb_path_ops);

CREATE TABLE credentials (
  organization_id uuid NOT NULL,
  agent_id uuid NOT NULL,
  credential_id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('secret')),
  name text,
  status text NOT NULL CHECK (status IN ('active', 'retiring', 'revoked')),
  prefix text NOT NULL,
  secret_hash bytea NOT NULL,
  generation integer NOT NULL DEFAULT 1,
  created_at timestamptz(3) NOT NULL,
  expires_at timestamptz(3),
  retires_at timestamptz(3),
  revoked_at timestamptz(3),
  last_used_at timestamptz(3),
  PRIMARY KEY (organization_id, agent_id, credential_id),
  FOREIGN KEY (organization_id, agent_id) REFERENCES agents (organization_id, agent_id),
  CHECK ((status = 'retiring') = (retires_at IS NOT NULL AND revoked_at IS NULL))
);
CREATE INDEX credentials_by_prefix ON credentials (agent_id, prefix);

CREATE TABLE token_revocations (
  organization_id uuid NOT NULL,
  jti uuid NOT NULL,
  expires_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, jti)
);
CREATE INDEX token_revocations_expiry ON token_revocations (expires_at);
`;

const KEYS = `
CREATE TABLE signing_keys (
  kid text PRIMARY KEY,
  algorithm text NOT NULL,
  phase text NOT NULL CHECK (phase IN ('next', 'active', 'retired', 'revoked')),
  public_jwk jsonb NOT NULL,
  sealed_private_key bytea NOT NULL,
  created_at timestamptz(3) NOT NULL,
  retired_at timestamptz(3)
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (phase) WHERE phase = 'active';

CREATE TABLE sealed_secrets (
  name text PRIMARY KEY,
  sealed bytea NOT NULL,
  created_at timestamptz(3) NOT NULL
);
`;

/** The columns hold the event itself, not a rendering of it: verification renders it anew, so that no column can lie. */
const AUDIT = `
CREATE TABLE audit_events (
  organization_id uuid NOT NULL,
  sequence bigint NOT NULL,
  event_id uuid NOT NULL,
  action text NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('success', 'failure')),
  actor uuid,
  target_type text NOT NULL,
  target_id text NOT NULL,
  ip text,
  user_agent text,
  details jsonb NOT NULL,
  occurred_at timestamptz(3) NOT NULL,
  previous_hash bytea NOT NULL,
  hash bytea NOT NULL,
  PRIMARY KEY (organization_id, sequence)
);
CREATE UNIQUE INDEX audit_events_event_id ON audit_events (organization_id, event_id);
`;
