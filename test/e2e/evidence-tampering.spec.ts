import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { claimsOf, type Answer } from '../support/api.js';
import { EVENT_COLUMNS, flipBit, rechain, restoreEvidence, saveEvidence } from '../support/chain-forgery.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** Whoever owns the database changes the evidence; verification names the first broken sequence. */
describe('tampering with the audit log as the superuser', () => {
  let service: TestApp;
  let token: string;
  let organizationId: string;
  /** Checkpoints over events 1 to 5, 1 to 9 and 1 to 12, the last of which stay with the customer. */
  let kept: string;
  const FIRST = 5;
  const SECOND = 9;
  const THIRD = 12;
  const HEAD = 14;

  const sql = (text: string, ...values: unknown[]) => service.database.query(text, values);
  const verify = (query = '') => service.api.call('GET', `/audit/verify${query}`, token);
  const verifyKept = (checkpoint: string) => service.api.call('POST', '/audit/verify', token, { checkpoint });
  const faultOf = ({ status, body }: Answer) => [status, body['valid'], body['brokenAt'], body['reason']];
  const reach = async (sequence: number) => {
    for (;;) {
      const [row] = await service.database.query<{ sequence: string }>('SELECT sequence FROM organization_ledgers');
      if (Number(row?.sequence) >= sequence) return;
      await service.api.token(service.operator);
    }
  };
  const checkpoint = async () =>
    (await service.api.call('GET', '/audit/checkpoint', token)).body['checkpoint'] as string;

  beforeAll(async () => {
    service = await startTestApp();
    token = await service.api.token(service.operator);
    organizationId = claimsOf(token)['org'] as string;
    await reach(FIRST);
    await checkpoint();
    await reach(SECOND);
    await checkpoint();
    await reach(THIRD);
    kept = await checkpoint();
    await reach(HEAD);
    await saveEvidence(service.database);
  });
  afterEach(() => restoreEvidence(service.database));
  afterAll(() => service.close());

  it('finds nothing where nothing was done', async () => {
    const { status, body } = await verify();
    expect(status).toBe(200);
    expect(body).toEqual({
      valid: true,
      checked: HEAD,
      firstSequence: 1,
      lastSequence: HEAD,
      headHash: expect.stringMatching(/^[0-9a-f]{64}$/),
      brokenAt: null,
    });
    expect((await verifyKept(kept)).body).toEqual(body);
  });

  it.each(EVENT_COLUMNS)('finds one bit of %s flipped', async (column) => {
    await flipBit(service.database, 7, column);
    const { body } = await verify();
    expect(body).toMatchObject({ valid: false, brokenAt: 7, checked: 6, lastSequence: 6 });
    expect((await verify('?fromSequence=6&toSequence=8')).body).toMatchObject({ valid: false, brokenAt: 7 });
  });

  it('finds a column set to null', async () => {
    await sql('UPDATE audit_events SET user_agent = NULL WHERE sequence = 7');
    expect(faultOf(await verify())).toEqual([200, false, 7, 'event_altered']);
  });

  it('finds an event changed together with its hash', async () => {
    await sql("UPDATE audit_events SET action = 'agent.created' WHERE sequence = 7");
    const [next] = await service.database.query<{ previous_hash: Buffer }>(
      'SELECT previous_hash FROM audit_events WHERE sequence = 8',
    );
    await rechain(service.database, organizationId, 7);
    await sql('UPDATE audit_events SET previous_hash = $1 WHERE sequence = 8', next?.previous_hash);
    expect(faultOf(await verify())).toEqual([200, false, 7, 'chain_rewritten']);
  });

  it.each([1, 7, HEAD])('finds event %i deleted', async (sequence) => {
    await sql('DELETE FROM audit_events WHERE sequence = $1', sequence);
    expect(faultOf(await verify())).toEqual([200, false, sequence, 'event_missing']);
  });

  it('finds an event deleted and the rest moved up and chained anew', async () => {
    await sql('DELETE FROM audit_events WHERE sequence = 7');
    for (let sequence = 8; sequence <= HEAD; sequence += 1) {
      await sql('UPDATE audit_events SET sequence = sequence - 1 WHERE sequence = $1', sequence);
    }
    await rechain(service.database, organizationId);
    expect(faultOf(await verify())).toEqual([200, false, 7, 'chain_rewritten']);
  });

  it('finds an event inserted and the rest moved down and chained anew', async () => {
    await sql('UPDATE audit_events SET sequence = -sequence WHERE sequence > 7');
    await sql('UPDATE audit_events SET sequence = 1 - sequence WHERE sequence < 0');
    await sql(`INSERT INTO audit_events SELECT organization_id, 8, gen_random_uuid(), action, outcome, actor, target_type,
      target_id, ip, user_agent, details, occurred_at, previous_hash, hash FROM audit_events WHERE sequence = 7`);
    await rechain(service.database, organizationId);
    expect(faultOf(await verify())).toEqual([200, false, 8, 'chain_rewritten']);
  });

  it.each([HEAD + 1, HEAD + 1000, 0, -3])('finds an event inserted at %i, beyond the chain', async (sequence) => {
    await sql(
      `INSERT INTO audit_events SELECT organization_id, $1, gen_random_uuid(), action, outcome, actor, target_type,
        target_id, ip, user_agent, details, occurred_at, previous_hash, hash FROM audit_events WHERE sequence = 7`,
      sequence,
    );
    expect(faultOf(await verify())).toEqual([200, false, sequence, 'event_inserted']);
  });

  it('finds two events that changed places', async () => {
    await sql('UPDATE audit_events SET sequence = 100 WHERE sequence = 7');
    await sql('UPDATE audit_events SET sequence = 7 WHERE sequence = 8');
    await sql('UPDATE audit_events SET sequence = 8 WHERE sequence = 100');
    expect((await verify()).body).toMatchObject({ valid: false, brokenAt: 7 });
    await rechain(service.database, organizationId);
    expect(faultOf(await verify())).toEqual([200, false, 7, 'chain_rewritten']);
  });

  it('finds the tail cut off, and the ledger set back', async () => {
    await sql('DELETE FROM audit_events WHERE sequence > 10');
    expect(faultOf(await verify())).toEqual([200, false, 11, 'event_missing']);
    await rechain(service.database, organizationId);
    expect(faultOf(await verify())).toEqual([200, false, 11, 'tail_missing']);
  });

  it('finds the tail cut off together with its checkpoints', async () => {
    await sql('DELETE FROM audit_events WHERE sequence > 10');
    await sql('DELETE FROM audit_checkpoints WHERE sequence > 10');
    await rechain(service.database, organizationId);
    expect((await verify()).body).toMatchObject({ valid: false });
    await sql(`UPDATE audit_trees SET (size, chain_hash, checkpoint_sequence, checkpoint_hash) =
      (10, (SELECT hash FROM audit_events WHERE sequence = 10), 9,
        (SELECT sha256(convert_to(checkpoint, 'UTF8')) FROM audit_checkpoints WHERE sequence = 9))`);
    await sql('UPDATE audit_tree_tiles SET hashes = substring(hashes FROM 1 FOR 320) WHERE level = 0');
    expect(faultOf(await verify())).toEqual([200, true, null, undefined]);
    expect(faultOf(await verifyKept(kept))).toEqual([200, false, 11, 'tail_missing']);
  });

  it('finds the whole chain written anew', async () => {
    await sql("UPDATE audit_events SET user_agent = 'nobody' WHERE sequence = 3");
    await rechain(service.database, organizationId);
    expect(faultOf(await verify())).toEqual([200, false, 3, 'chain_rewritten']);
  });

  it('finds the chain written anew with its tree', async () => {
    await sql("UPDATE audit_events SET user_agent = 'nobody' WHERE sequence = 7");
    await rechain(service.database, organizationId);
    await sql(`UPDATE audit_tree_tiles SET hashes = (
      SELECT string_agg(sha256('\\x00'::bytea || hash), ''::bytea ORDER BY sequence) FROM audit_events
        WHERE sequence <= ${THIRD}) WHERE level = 0`);
    expect(faultOf(await verify())).toEqual([200, false, FIRST + 1, 'chain_rewritten']);
  });

  it('finds the chain written anew with its tree and without its checkpoints, by the one that was kept', async () => {
    await sql("UPDATE audit_events SET user_agent = 'nobody' WHERE sequence = 7");
    await rechain(service.database, organizationId);
    await sql('TRUNCATE audit_trees, audit_checkpoints, audit_tree_tiles');
    expect((await verify()).body).toMatchObject({ valid: true });
    expect(faultOf(await verifyKept(kept))).toEqual([200, false, 1, 'checkpoint_mismatch']);
    // A new checkpoint over the forgery does not help the forger.
    expect((await service.api.call('GET', '/audit/checkpoint', token)).status).toBe(200);
    expect((await verifyKept(kept)).body).toMatchObject({ valid: false, reason: 'checkpoint_mismatch' });
  });

  it('finds a checkpoint altered', async () => {
    await sql(
      'UPDATE audit_checkpoints SET checkpoint = overlay(checkpoint PLACING $1 FROM 200) WHERE sequence = 9',
      'XYZ',
    );
    expect(faultOf(await verify())).toEqual([200, false, SECOND, 'checkpoint_altered']);
  });

  it('finds a checkpoint moved, and its time changed', async () => {
    await sql('UPDATE audit_checkpoints SET sequence = 8 WHERE sequence = 9');
    expect((await verify()).body).toMatchObject({ valid: false, brokenAt: 8, reason: 'checkpoint_altered' });
    await restoreEvidence(service.database);
    await sql("UPDATE audit_checkpoints SET issued_at = issued_at - interval '1 ms' WHERE sequence = 9");
    expect(faultOf(await verify())).toEqual([200, false, SECOND, 'checkpoint_altered']);
  });

  it.each([
    [FIRST, SECOND],
    [SECOND, THIRD],
    [THIRD, THIRD],
  ])('finds checkpoint %i removed', async (removed, named) => {
    await sql('DELETE FROM audit_checkpoints WHERE sequence = $1', removed);
    expect(faultOf(await verify())).toEqual([200, false, named, 'checkpoint_missing']);
  });

  it('finds the tree altered', async () => {
    await sql('UPDATE audit_tree_tiles SET hashes = set_bit(hashes, 6 * 256 + 3, 1 - get_bit(hashes, 6 * 256 + 3))');
    expect(faultOf(await verify())).toEqual([200, false, 7, 'tree_altered']);
    await sql('TRUNCATE audit_tree_tiles');
    expect(faultOf(await verify())).toEqual([200, false, 1, 'tree_altered']);
  });

  it.each<[string, string, number | null, string]>([
    [
      'the head of the ledger changed',
      'UPDATE organization_ledgers SET head_hash = sha256(head_hash)',
      HEAD,
      'head_mismatch',
    ],
    ['the ledger set back', 'UPDATE organization_ledgers SET sequence = 13', 13, 'head_mismatch'],
    ['the ledger set back before a checkpoint', 'UPDATE organization_ledgers SET sequence = 8', 9, 'tail_missing'],
    ['the ledger set back to nothing', 'UPDATE organization_ledgers SET sequence = 0', 1, 'tail_missing'],
    ['the ledger set back before the start', 'UPDATE organization_ledgers SET sequence = -5', 1, 'tail_missing'],
    ['the ledger set ahead', 'UPDATE organization_ledgers SET sequence = 1000000', HEAD + 1, 'event_missing'],
    [
      'the tree said to be shorter',
      'UPDATE audit_trees SET size = 11, chain_hash = (SELECT hash FROM audit_events WHERE sequence = 11)',
      THIRD,
      'tree_altered',
    ],
    ['the tree said to be empty', 'UPDATE audit_trees SET size = 0, chain_hash = NULL', THIRD, 'tree_altered'],
    ['the tree said to be longer', 'UPDATE audit_trees SET size = 13', 13, 'tree_altered'],
    ['the tree said to end otherwise', 'UPDATE audit_trees SET chain_hash = sha256(chain_hash)', THIRD, 'tree_altered'],
    [
      'the tree said to have an older checkpoint',
      `UPDATE audit_trees SET checkpoint_sequence = 9, checkpoint_hash =
        (SELECT sha256(convert_to(checkpoint, 'UTF8')) FROM audit_checkpoints WHERE sequence = 9)`,
      THIRD,
      'tree_altered',
    ],
    [
      'the tree said to have no checkpoint',
      'UPDATE audit_trees SET checkpoint_sequence = 0, checkpoint_hash = NULL',
      THIRD,
      'tree_altered',
    ],
    ['the row of the tree removed', 'DELETE FROM audit_trees', THIRD, 'tree_altered'],
    [
      'a checkpoint in the middle removed, and a later one in its place',
      `DELETE FROM audit_checkpoints WHERE sequence = 9;
        UPDATE audit_checkpoints SET sequence = 9 WHERE sequence = 12`,
      SECOND,
      'checkpoint_altered',
    ],
    [
      'two checkpoints in each other’s place',
      `UPDATE audit_checkpoints SET sequence = CASE sequence WHEN 5 THEN -9 ELSE -5 END WHERE sequence IN (5, 9);
        UPDATE audit_checkpoints SET sequence = -sequence WHERE sequence < 0`,
      FIRST,
      'checkpoint_altered',
    ],
    [
      'the checkpoints removed but for the last',
      'DELETE FROM audit_checkpoints WHERE sequence < 12',
      THIRD,
      'checkpoint_missing',
    ],
    ['a retention that was not', "UPDATE audit_trees SET removed_through = 5, cut = 'x'", FIRST, 'cut_altered'],
  ])('finds %s', async (_what, statement, brokenAt, reason) => {
    await sql(statement);
    expect(faultOf(await verify())).toEqual([200, false, brokenAt, reason]);
  });

  it('finds the newest checkpoint removed without a trace, by a later one that was kept', async () => {
    // One that stands in no list names the newest of the list.
    await sql("INSERT INTO audit_checkpoints SELECT $1, -n, 'x', now() FROM generate_series(1, 300) n", organizationId);
    const alone = await checkpoint();
    await sql('DELETE FROM audit_checkpoints WHERE sequence < 0 OR sequence = 12');
    await sql(`UPDATE audit_trees SET (size, chain_hash, checkpoint_sequence, checkpoint_hash) =
      (9, (SELECT hash FROM audit_events WHERE sequence = 9), 9,
        (SELECT sha256(convert_to(checkpoint, 'UTF8')) FROM audit_checkpoints WHERE sequence = 9))`);
    expect(faultOf(await verify())).toEqual([200, true, null, undefined]);
    expect(faultOf(await verifyKept(kept))).toEqual([200, true, null, undefined]);
    expect(faultOf(await verifyKept(alone))).toEqual([200, false, claimsOf(alone)['sequence'], 'checkpoint_missing']);
  });

  it.each([
    [7, 7],
    [HEAD, HEAD],
    [null, 0],
  ])('finds an event in place %s where the table has lost its keys', async (place, brokenAt) => {
    await sql('ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey');
    await sql('ALTER TABLE audit_events ALTER COLUMN sequence DROP NOT NULL');
    try {
      await sql(
        `INSERT INTO audit_events SELECT organization_id, $1, gen_random_uuid(), action, outcome, actor, target_type,
          target_id, ip, user_agent, details, occurred_at, previous_hash, hash FROM audit_events WHERE sequence = 7`,
        place,
      );
      expect((await verify()).body).toMatchObject({ valid: false, brokenAt });
    } finally {
      await restoreEvidence(service.database);
      await sql('ALTER TABLE audit_events ADD CONSTRAINT audit_events_pkey PRIMARY KEY (organization_id, sequence)');
    }
  });

  it('signs nothing over a chain that is broken', async () => {
    await sql('UPDATE audit_events SET hash = previous_hash WHERE sequence = $1', HEAD);
    const { status, body } = await service.api.call('GET', '/audit/checkpoint', token);
    expect([status, body['code']]).toEqual([409, 'conflict']);
    expect(body['detail']).toContain(String(HEAD));
  });

  it('takes no checkpoint that we did not sign', async () => {
    const [header = '', payload = '', signature = ''] = kept.split('.');
    const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = claimsOf(kept);
    const forged = [
      'x',
      '..',
      `${header}.${encode({ ...claims, sequence: 3 })}.${signature}`,
      `${encode({ alg: 'none', typ: 'audit-checkpoint+jwt' })}.${payload}.`,
      `${encode({ alg: 'HS256', typ: 'audit-checkpoint+jwt', kid: claimsOf(`.${header}.`)['kid'] })}.${payload}.${signature}`,
      token,
    ];
    for (const checkpoint of forged) {
      expect(faultOf(await verifyKept(checkpoint))).toEqual([200, false, null, 'checkpoint_not_authentic']);
    }
  });
});
