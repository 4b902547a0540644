import canonicalize from 'canonicalize';
import { createHash } from 'node:crypto';
import type { TestDatabase } from './test-database.js';

const TABLES = ['audit_events', 'audit_checkpoints', 'audit_tree_tiles', 'audit_trees', 'organization_ledgers'];

interface Row {
  organization_id: string;
  sequence: string;
  event_id: string;
  action: string;
  outcome: string;
  actor: string | null;
  target_type: string;
  target_id: string;
  ip: string | null;
  user_agent: string | null;
  details: unknown;
  occurred_at: Date;
}

/** Remembers the evidence as it is, so that each forgery starts from the truth. */
export async function saveEvidence(database: TestDatabase): Promise<void> {
  for (const table of TABLES) await database.query(`CREATE TABLE saved_${table} AS TABLE ${table}`);
}

/** Puts back what `saveEvidence` remembered. */
export async function restoreEvidence(database: TestDatabase): Promise<void> {
  for (const table of TABLES) {
    await database.query(`TRUNCATE ${table}`);
    await database.query(`INSERT INTO ${table} SELECT * FROM saved_${table}`);
  }
}

/** Chains all events anew from `from` on, the ledger's head too: what a thorough forger does. */
export async function rechain(database: TestDatabase, organizationId: string, from = 1): Promise<void> {
  const rows = await database.query<Row>(
    'SELECT * FROM audit_events WHERE organization_id = $1 AND sequence >= $2 ORDER BY sequence',
    [organizationId, from],
  );
  const [before] = await database.query<{ hash: Buffer }>(
    'SELECT hash FROM audit_events WHERE organization_id = $1 AND sequence = $2',
    [organizationId, from - 1],
  );
  let previousHash = before?.hash.toString('hex') ?? sha256(organizationId);
  for (const row of rows) {
    const hash = sha256(
      canonicalize({
        eventId: row.event_id,
        sequence: Number(row.sequence),
        organizationId: row.organization_id,
        action: row.action,
        outcome: row.outcome,
        actor: row.actor,
        target: { type: row.target_type, id: row.target_id },
        ip: row.ip,
        userAgent: row.user_agent,
        details: row.details,
        occurredAt: row.occurred_at.toISOString(),
        previousHash,
      }) ?? '',
    );
    await database.query(
      `UPDATE audit_events SET previous_hash = decode($3, 'hex'), hash = decode($4, 'hex')
        WHERE organization_id = $1 AND sequence = $2`,
      [organizationId, row.sequence, previousHash, hash],
    );
    previousHash = hash;
  }
  await database.query(
    `UPDATE organization_ledgers SET head_hash = decode($2, 'hex'), sequence = $3 WHERE organization_id = $1`,
    [organizationId, previousHash, rows.at(-1)?.sequence ?? from - 1],
  );
}

/** Signs a checkpoint: `payload` in canonical form. */
export type SignCheckpoint = (payload: object) => string;

/**
 * Makes tree and checkpoints fit the events of a chain of up to 256 that was chained anew, each checkpoint with the instant
 * that it had: what a forger does who has a key.
 */
export async function signAnew(database: TestDatabase, organizationId: string, sign: SignCheckpoint): Promise<void> {
  const of = [organizationId];
  const events = await database.query<{ hash: Buffer }>(
    'SELECT hash FROM audit_events WHERE organization_id = $1 ORDER BY sequence',
    of,
  );
  const leaves = events.map(({ hash }) => createHash('sha256').update(Buffer.of(0)).update(hash).digest());
  const checkpoints = await database.query<{ sequence: string; checkpoint: string }>(
    'SELECT sequence, checkpoint FROM audit_checkpoints WHERE organization_id = $1 ORDER BY sequence',
    of,
  );
  let previousCheckpointHash: string | null = null;
  let size = 0;
  for (const { sequence, checkpoint } of checkpoints) {
    size = Number(sequence);
    const payload = Buffer.from(checkpoint.split('.')[1] ?? '', 'base64url').toString('utf8');
    const forged = sign({
      ...(JSON.parse(payload) as object),
      hash: events[size - 1]?.hash.toString('hex'),
      rootHash: rootOf(leaves.slice(0, size)).toString('hex'),
      previousCheckpointHash,
    });
    await database.query('UPDATE audit_checkpoints SET checkpoint = $3 WHERE organization_id = $1 AND sequence = $2', [
      organizationId,
      sequence,
      forged,
    ]);
    previousCheckpointHash = sha256(forged);
  }
  await database.query(
    `UPDATE audit_trees SET chain_hash = $2, checkpoint_hash = decode($3, 'hex') WHERE organization_id = $1`,
    [organizationId, events[size - 1]?.hash, previousCheckpointHash],
  );
  await database.query('UPDATE audit_tree_tiles SET hashes = $2 WHERE organization_id = $1 AND level = 0', [
    organizationId,
    Buffer.concat(leaves.slice(0, size)),
  ]);
}

/** The Merkle Tree Hash of RFC 9162 §2.1.1 over leaf hashes. */
function rootOf(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 1) return leaves[0] as Buffer;
  const left = 2 ** (Math.ceil(Math.log2(leaves.length)) - 1);
  const children = [Buffer.of(1), rootOf(leaves.slice(0, left)), rootOf(leaves.slice(left))];
  return createHash('sha256').update(Buffer.concat(children)).digest();
}

/** Replaces one bit of a column of the event at `sequence`, whatever its type. */
export async function flipBit(database: TestDatabase, sequence: number, column: string): Promise<void> {
  await database.query('ALTER TABLE audit_events DROP CONSTRAINT IF EXISTS audit_events_outcome_check');
  const expression = FLIPS[column];
  if (expression === undefined) throw new Error(`no way to flip a bit of ${column}`);
  await database.query(`UPDATE audit_events SET ${column} = ${expression} WHERE sequence = $1`, [sequence]);
}

const flipUuid = (column: string) =>
  `encode(set_bit(uuid_send(${column}), 8, 1 - get_bit(uuid_send(${column}), 8)), 'hex')::uuid`;
/** The lowest bit of the first character: ASCII stays ASCII. */
const flipText = (column: string) =>
  `convert_from(set_bit(convert_to(${column}, 'UTF8'), 0, 1 - get_bit(convert_to(${column}, 'UTF8'), 0)), 'UTF8')`;
const flipBytes = (column: string) => `set_bit(${column}, 77, 1 - get_bit(${column}, 77))`;

const FLIPS: Readonly<Record<string, string>> = {
  organization_id: flipUuid('organization_id'),
  // A high bit, so that the place is free.
  sequence: 'sequence # 65536',
  event_id: flipUuid('event_id'),
  action: flipText('action'),
  outcome: flipText('outcome'),
  actor: flipUuid('actor'),
  target_type: flipText('target_type'),
  target_id: flipText('target_id'),
  ip: flipText('ip'),
  user_agent: flipText('user_agent'),
  details: `jsonb_set(details, '{expiresAt}', to_jsonb((details ->> 'expiresAt')::bigint # 1))`,
  occurred_at: `to_timestamp(((extract(epoch FROM occurred_at) * 1000)::bigint # 1) / 1000.0)`,
  previous_hash: flipBytes('previous_hash'),
  hash: flipBytes('hash'),
};

/** Every column of an event. */
export const EVENT_COLUMNS: readonly string[] = Object.keys(FLIPS);

function sha256(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}
