import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Resource servers with their scopes, and the usage of organizations. */
export class ResourceServers1764000001000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(RESOURCE_SERVERS);
    await runner.query(USAGE);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * Identifiers that are the same URI in another spelling are the same here (`identifier_key`), and one stays with the
 * organization that had it first, even after it was deleted: APIs may trust it as an audience for long. Scope names that
 * differ only in case are the same. Both are ASCII, so that there are no two Unicode forms of one.
 */
const RESOURCE_SERVERS = `
CREATE TABLE resource_servers (
  organization_id uuid NOT NULL REFERENCES organizations (organization_id),
  resource_id uuid NOT NULL CONSTRAINT resource_servers_resource_id_key UNIQUE,
  identifier text NOT NULL,
  identifier_key text NOT NULL CONSTRAINT resource_servers_identifier_key UNIQUE,
  name text NOT NULL,
  token_ttl_seconds integer,
  created_at timestamptz(3) NOT NULL,
  updated_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, resource_id)
);
CREATE INDEX resource_servers_newest_first
  ON resource_servers (organization_id, created_at DESC, resource_id DESC);

CREATE TABLE resource_identifiers (
  identifier_key text PRIMARY KEY,
  organization_id uuid NOT NULL REFERENCES organizations (organization_id)
);

CREATE TABLE resource_scopes (
  organization_id uuid NOT NULL,
  name text NOT NULL,
  resource_id uuid NOT NULL,
  position integer NOT NULL,
  description text NOT NULL,
  PRIMARY KEY (organization_id, name),
  FOREIGN KEY (organization_id, resource_id) REFERENCES resource_servers (organization_id, resource_id)
    ON DELETE CASCADE
);
CREATE UNIQUE INDEX resource_scopes_name_key ON resource_scopes (organization_id, lower(name));
CREATE INDEX resource_scopes_of_resource ON resource_scopes (organization_id, resource_id, position);

CREATE INDEX organizations_newest_first ON organizations (created_at DESC, organization_id DESC);
`;

/** Usage follows the audit chain: `counted_to` is the last sequence that the counts hold. */
const USAGE = `
CREATE TABLE organization_usage (
  organization_id uuid NOT NULL REFERENCES organizations (organization_id),
  day date NOT NULL,
  kind text NOT NULL,
  count bigint NOT NULL,
  PRIMARY KEY (organization_id, day, kind)
);
CREATE TABLE organization_usage_cursors (
  organization_id uuid PRIMARY KEY REFERENCES organizations (organization_id),
  counted_to bigint NOT NULL
);
`;
