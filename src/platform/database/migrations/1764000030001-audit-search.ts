import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Indexes for every filter of the audit log. */
export class AuditSearch1764000030001 implements MigrationInterface {
  /** The log may be long and goes on growing meanwhile: its indexes are built without holding up who appends. */
  readonly transaction = false;

  async up(runner: QueryRunner): Promise<void> {
    for (const [name, definition] of Object.entries(SEARCH_INDEXES)) {
      // What an attempt that broke off has left behind is not whole, and is made anew.
      const broken = await runner.manager.query<unknown[]>(
        'SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid',
        [name],
      );
      if (broken.length > 0) await runner.query(`DROP INDEX CONCURRENTLY ${name}`);
      await runner.query(`CREATE INDEX CONCURRENTLY IF NOT EXISTS ${name} ON audit_events ${definition}`);
    }
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * An issued token enters one index only, the actor's; the others leave out what nearly all rows are. The action stands
 * before the sequence there, so that rare acts of an agent with a million tokens are found at once.
 */
const SEARCH_INDEXES: Readonly<Record<string, string>> = {
  audit_events_actor: '(organization_id, actor, action, sequence) WHERE actor IS NOT NULL',
  audit_events_action: "(organization_id, action, sequence) WHERE action <> 'token.issued'",
  audit_events_agent_target: "(organization_id, target_id, sequence) WHERE target_type = 'agent'",
  audit_events_agent_detail: "(organization_id, (details ->> 'agentId'), sequence) WHERE details ? 'agentId'",
  audit_events_failures: "(organization_id, sequence) WHERE outcome = 'failure'",
};
