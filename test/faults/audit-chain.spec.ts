import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { AuditService } from '../../src/audit/audit.service.js';
import { VerificationService } from '../../src/evidence/verification.service.js';
import { UnitOfWork } from '../../src/platform/database/unit-of-work.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import type { NewAuditEvent } from '../../src/platform/kernel/audit-event.js';

/** Strings that a text column holds but a renderer may get wrong; PostgreSQL takes no NUL. */
const storable = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }).map((text) => text.replaceAll('\0', '')),
  fc.constantFrom('', '"', '\\', '","sequence":1,"x":"', "'; DROP TABLE audit_events; --", '\u2028', '{}', '😀'),
);

const details = fc.dictionary(
  storable,
  fc.oneof(storable, fc.maxSafeInteger(), fc.boolean(), fc.constant(null), fc.array(storable, { maxLength: 3 })),
  { maxKeys: 5, noNullPrototype: true },
);

describe('the audit chain in the database', () => {
  let service: TestApp;
  let audit: AuditService;
  let verification: VerificationService;
  let organizationId: string;

  beforeAll(async () => {
    service = await startTestApp();
    audit = service.app.get(AuditService);
    verification = service.app.get(VerificationService);
    const [row] = await service.database.query<{ organization_id: string }>(
      'SELECT organization_id FROM organizations',
    );
    organizationId = row?.organization_id ?? '';
  });
  afterAll(() => service.close());

  function event(more: Partial<NewAuditEvent> = {}): NewAuditEvent {
    return {
      organizationId,
      action: 'token.refused',
      outcome: 'failure',
      actor: null,
      target: { type: 'agent', id: 'x' },
      origin: { ip: '203.0.113.7', userAgent: 'test' },
      details: {},
      ...more,
    };
  }

  function append(...events: readonly NewAuditEvent[]): Promise<void> {
    return service.app.get(UnitOfWork).run((transaction) => audit.appendAll(transaction, events));
  }

  async function head(): Promise<number> {
    return (await verification.verify(organizationId)).lastSequence ?? 0;
  }

  it('verifies whatever strings the events hold', async () => {
    const hostile = fc.sample(fc.record({ id: storable, ip: fc.option(storable), userAgent: storable, details }), 150);
    const before = await head();
    await append(
      ...hostile.map(({ id, ip, userAgent, details: held }) =>
        event({ target: { type: 'agent', id }, origin: { ip, userAgent }, details: held }),
      ),
    );
    expect(await verification.verify(organizationId)).toMatchObject({ valid: true, checked: before + 150 });
  });

  it('keeps the order in which events were appended', async () => {
    const before = await head();
    await append(...Array.from({ length: 50 }, (_, index) => event({ details: { index } })));
    const rows = await service.database.query<{ index: string }>(
      "SELECT details ->> 'index' AS index FROM audit_events WHERE sequence > $1 ORDER BY sequence",
      [before],
    );
    expect(rows.map(({ index }) => Number(index))).toEqual(Array.from({ length: 50 }, (_, index) => index));
  });

  it('has no place for an event whose transaction is rolled back', async () => {
    const before = await head();
    const undone = service.app.get(UnitOfWork).run(async (transaction) => {
      await audit.append(transaction, event());
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    await append(event());
    expect(await verification.verify(organizationId)).toMatchObject({ valid: true, lastSequence: before + 1 });
  });

  it.each([
    ['action', "action = 'token.issued'", 'event_altered'],
    ['outcome', "outcome = 'success'", 'event_altered'],
    ['actor', "actor = '00000000-0000-4000-8000-000000000000'", 'event_altered'],
    ['target', "target_id = 'y'", 'event_altered'],
    ['kind of target', "target_type = 'token'", 'event_altered'],
    ['address', 'ip = NULL', 'event_altered'],
    ['user agent', "user_agent = 'tesT'", 'event_altered'],
    ['details', `details = '{"a":1}'`, 'event_altered'],
    ['instant', "occurred_at = occurred_at + interval '1 millisecond'", 'event_altered'],
    ['event id', "event_id = '00000000-0000-4000-8000-000000000000'", 'event_altered'],
    ['hash', "hash = sha256('x')", 'event_altered'],
    ['previous hash', "previous_hash = sha256('x')", 'link_broken'],
  ])('tells that the %s of an event was changed', async (_name, change, reason) => {
    await append(event());
    const sequence = await head();
    await append(event());
    const kept = await service.database.query<Record<string, unknown>>(
      'SELECT * FROM audit_events WHERE sequence = $1',
      [sequence],
    );
    await service.database.query(`UPDATE audit_events SET ${change} WHERE sequence = $1`, [sequence]);
    expect(await verification.verify(organizationId)).toMatchObject({
      valid: false,
      brokenAt: sequence,
      reason,
      checked: sequence - 1,
    });
    await restore(kept[0] ?? {});
    expect(await verification.verify(organizationId)).toMatchObject({ valid: true });
  });

  it('tells that an event was deleted, and that the newest was', async () => {
    await append(event());
    await append(event());
    const newest = await head();
    for (const sequence of [newest - 1, newest]) {
      const [kept] = await service.database.query<Record<string, unknown>>(
        'DELETE FROM audit_events WHERE sequence = $1 RETURNING *',
        [sequence],
      );
      expect(await verification.verify(organizationId)).toMatchObject({ brokenAt: sequence, reason: 'event_missing' });
      await insert(kept ?? {});
    }
    expect(await verification.verify(organizationId)).toMatchObject({ valid: true, checked: newest });
  });

  it('tells that the head was changed', async () => {
    const newest = await head();
    const [ledger] = await service.database.query<{ head_hash: Buffer }>('SELECT head_hash FROM organization_ledgers');
    await service.database.query("UPDATE organization_ledgers SET head_hash = sha256('x')");
    expect(await verification.verify(organizationId)).toMatchObject({ brokenAt: newest, reason: 'head_mismatch' });
    await service.database.query('UPDATE organization_ledgers SET head_hash = $1', [ledger?.head_hash]);
    expect(await verification.verify(organizationId)).toMatchObject({ valid: true });
  });

  it.each([
    ['before its first', () => 0],
    ['far before its first', () => -1],
    ['behind its head', (newest: number) => newest + 1],
    ['far behind its head', (newest: number) => newest + 5],
  ])('tells that an event was put %s', async (_name, place) => {
    const newest = await head();
    const sequence = place(newest);
    const [copied] = await service.database.query<Record<string, unknown>>(
      'SELECT * FROM audit_events WHERE sequence = $1',
      [newest],
    );
    await insert({ ...copied, sequence, event_id: '00000000-0000-4000-8000-000000000001' });
    expect(await verification.verify(organizationId)).toMatchObject({
      valid: false,
      brokenAt: sequence,
      reason: 'event_inserted',
    });
    await service.database.query('DELETE FROM audit_events WHERE sequence = $1', [sequence]);
    expect(await verification.verify(organizationId)).toMatchObject({ valid: true });
  });

  async function restore(row: Record<string, unknown>): Promise<void> {
    await service.database.query('DELETE FROM audit_events WHERE sequence = $1', [row['sequence']]);
    await insert(row);
  }

  async function insert(row: Record<string, unknown>): Promise<void> {
    const columns = Object.keys(row);
    await service.database.query(
      `INSERT INTO audit_events (${columns.join(', ')}) VALUES (${columns.map((_, index) => `$${index + 1}`).join(', ')})`,
      Object.values(row),
    );
  }
});
