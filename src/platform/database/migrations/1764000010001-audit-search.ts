import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Indexes for every filter of the audit log. */
export class AuditSearch1764000010001 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(SEARCH_INDEXES);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * An issued token enters one index only, the actor's; the others leave out what nearly all rows are. The action stands
 * before the sequence there, so that rare acts of an agent with a million tokens are found at once.
 */
const SEARCH_INDEXES = `
CREATE INDEX audit_events_actor ON audit_events (organization_id, actor, action, sequence) WHERE actor IS NOT NULL;
CREATE INDEX audit_events_action ON audit_events (organization_id, action, sequence) WHERE action <> 'token.issued';
CREATE INDEX audit_events_agent_target ON audit_events (organization_id, target_id, sequence)
  WHERE target_type = 'agent';
CREATE INDEX audit_events_agent_detail ON audit_events (organization_id, (details ->> 'agentId'), sequence)
  WHERE details ? 'agentId';
CREATE INDEX audit_events_failures ON audit_events (organization_id, sequence) WHERE outcome = 'failure';
`;
