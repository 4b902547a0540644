import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeBackup } from '../../src/platform/backup/write-backup.js';
import { hashOf } from '../../src/platform/kernel/canonical-event.js';
import { claimsOf, type ClientCredentials } from '../support/api.js';
import { Backups, expectVerifies } from '../support/backups.js';
import { environmentOf, runCommand } from '../support/service-process.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/test-database.js';

type Json = Record<string, unknown>;

const backups = new Backups();
afterAll(() => backups.remove());

describe('after an older backup was restored', () => {
  /** What happened after the backup. */
  let lost: {
    organizationId: string;
    checkpoint: string;
    files: string[];
    tokens: string[];
    suspended: string;
    unscoped: string;
    credentialId: string;
    lastSequence: number;
    /** An organization that was made after the backup. */
    younger: { organizationId: string; sequence: number };
    operator: ClientCredentials;
  };
  let older: string;
  let service: TestApp;
  let database: TestDatabase;
  let operator: string;

  beforeAll(async () => {
    const first = await createTestDatabase();
    const before = await startTestApp({ database: first, env: { ISSUER: backups.issuer } });
    const { api } = before;
    const token = await api.token(before.operator);
    const made = await api.call('POST', '/organizations', token, { name: 'Tenant', slug: 'tenant', tier: 'pro' });
    const organizationId = String(made.body['organizationId']);
    const agent = (name: string) => api.agent(token, { organizationId, name, scopes: ['agents:read', 'tokens:read'] });
    const [works, suspended, stolen] = [await agent('works'), await agent('leaves'), await agent('is stolen')];
    // Nothing happens to this one but to its organization.
    const steady = await agent('stays as it is');
    const early = await api.token(works);
    older = String(
      (await api.call('GET', `/audit/checkpoint?organizationId=${organizationId}`, token)).body['checkpoint'],
    );
    const file = backups.newFile();
    await writeBackup(first.owningUrl, file, '0.1.0');

    const lastSequence = claimsOf(older)['sequence'] as number;
    // What the backup knows nothing of: tokens, revocations, and generations that will be given out anew.
    const late = await api.token(works);
    await api.revoke(early, early);
    await api.call('POST', `/agents/${suspended.agentId}/suspend`, token);
    await api.call('DELETE', `/agents/${stolen.agentId}/credentials/${stolen.credentialId}`, token);
    await api.call('PATCH', `/agents/${works.agentId}`, token, { scopes: ['agents:read'] });
    const narrowed = await api.token(works);
    for (const act of ['suspend', 'reactivate'])
      await api.call('POST', `/organizations/${organizationId}/${act}`, token);
    const next = await api.token(steady);
    const checkpoint = String(
      (await api.call('GET', `/audit/checkpoint?organizationId=${organizationId}`, token)).body['checkpoint'],
    );
    const exported = (await api.call('GET', `/audit/export?organizationId=${organizationId}`, token)).text;
    const { body } = await api.call('GET', `/audit?organizationId=${organizationId}&limit=200`, token);
    const messages = (body['data'] as Json[])
      .reverse()
      .map((event) => JSON.stringify({ type: event['action'], timestamp: event['occurredAt'], data: event }));
    const younger = String(
      (await api.call('POST', '/organizations', token, { name: 'Younger', slug: 'younger' })).body['organizationId'],
    );
    const youngerCheckpoint = await api.call('GET', `/audit/checkpoint?organizationId=${younger}`, token);
    const youngerExport = await api.call('GET', `/audit/export?organizationId=${younger}`, token);
    const files = [
      join(backups.folder, 'export.ndjson'),
      join(backups.folder, 'checkpoint.jws'),
      join(backups.folder, 'messages.ndjson'),
      join(backups.folder, 'younger.json'),
      join(backups.folder, 'younger.ndjson'),
    ];
    await writeFile(files[0] ?? '', exported);
    await writeFile(files[1] ?? '', `${checkpoint}\n`);
    await writeFile(files[2] ?? '', messages.join('\n'));
    await writeFile(files[3] ?? '', youngerCheckpoint.text);
    await writeFile(files[4] ?? '', youngerExport.text);
    lost = {
      organizationId,
      checkpoint,
      files,
      tokens: [early, late, narrowed, next],
      suspended: suspended.agentId,
      unscoped: works.agentId,
      credentialId: stolen.credentialId,
      lastSequence,
      younger: {
        organizationId: younger,
        sequence: claimsOf(String(youngerCheckpoint.body['checkpoint']))['sequence'] as number,
      },
      operator: before.operator,
    };
    await before.close();
    await first.drop();

    database = await createEmptyDatabase();
    expect(await backups.restore(file, database)).toMatchObject({ code: 0 });
    service = await startTestApp({ database, env: { ISSUER: backups.issuer } });
    operator = await service.api.token(before.operator);
  }, 60_000);
  afterAll(async () => {
    await service.close();
    await database.drop();
  });

  const verifyKept = async (checkpoint: string): Promise<Json> =>
    (await service.api.call('POST', '/audit/verify', operator, { checkpoint, organizationId: lost.organizationId }))
      .body;

  it('no token from before it lives, whether the backup knows of it or not', async () => {
    for (const token of lost.tokens) expect(await service.api.introspect(operator, token)).toEqual({ active: false });
  });

  it('and none of them comes to life when generations are given out that were given out before', async () => {
    for (let time = 0; time < 3; time += 1) {
      for (const act of ['suspend', 'reactivate']) {
        expect((await service.api.call('POST', `/organizations/${lost.organizationId}/${act}`, operator)).status).toBe(
          200,
        );
      }
      for (const token of lost.tokens) expect(await service.api.introspect(operator, token)).toEqual({ active: false });
    }
  });

  it('a checkpoint that was kept says where history was cut, also once the chain is longer than it', async () => {
    const cut = { valid: false, brokenAt: lost.lastSequence + 1, reason: 'history_lost' };
    expect(await verifyKept(lost.checkpoint)).toMatchObject(cut);
    const { sequence } = claimsOf(lost.checkpoint) as { sequence: number };
    for (let count = 0; count <= sequence - lost.lastSequence; count += 1) {
      await service.api.agent(operator, { organizationId: lost.organizationId, name: `new ${count}` });
    }
    expect(await verifyKept(lost.checkpoint)).toMatchObject(cut);
    await expectVerifies(service, operator, lost.organizationId);
  });

  it('a checkpoint from before the backup verifies as ever', async () => {
    expect(await verifyKept(older)).toMatchObject({ valid: true, brokenAt: null });
  });

  it('a checkpoint that was kept does not excuse a chain that was rewritten before the cut', async () => {
    await database.query('CREATE TABLE saved AS TABLE audit_events');
    await database.query(
      "UPDATE audit_events SET action = 'agent.updated' WHERE sequence = 2 AND organization_id = $1",
      [lost.organizationId],
    );
    expect(await verifyKept(lost.checkpoint)).toMatchObject({ valid: false, brokenAt: 2, reason: 'event_altered' });
    await database.query('TRUNCATE audit_events');
    await database.query('INSERT INTO audit_events SELECT * FROM saved');
  });

  it.each([0, 2])(
    'restore:check names what was revoked and suspended since, and how to do it again (file %d)',
    async (index) => {
      const { code, output } = await runCommand(['restore:check', lost.files[index] ?? ''], environmentOf(database));
      expect(code).toBe(1);
      const named = output
        .split('\n')
        .map((line) => line.split('\t'))
        .filter((line) => line.length > 3);
      const of = (action: string) =>
        named.filter(([, , , name]) => name === action).map(([, , , , , target, again]) => [target, again]);
      expect(of('agent.suspended')).toEqual([[lost.suspended, `POST /api/v1/agents/${lost.suspended}/suspend`]]);
      expect(of('credential.revoked')).toEqual([
        [lost.credentialId, expect.stringMatching(`^DELETE /api/v1/agents/.*/credentials/${lost.credentialId}$`)],
      ]);
      expect(of('agent.updated')).toEqual([
        [lost.unscoped, expect.stringContaining('scopes may have been taken away')],
      ]);
      expect(of('organization.suspended')).toHaveLength(1);
      expect(of('token.revoked')).toHaveLength(1);
      expect(of('token.issued')).toEqual([]);
      expect(output).toContain(`are lost, from ${lost.lastSequence + 1} on`);
      // Copies of messages carry no signature of ours that could be checked afterwards.
      expect(output.includes('Take what it names with care')).toBe(index === 2);
    },
  );

  it('restore:check says of a checkpoint alone from where on something is lost', async () => {
    const { code, output } = await runCommand(['restore:check', lost.files[1] ?? ''], environmentOf(database));
    expect([code, output]).toEqual([1, expect.stringContaining(`are lost, from ${lost.lastSequence + 1} on`)]);
  });

  it('restore:check says that an organization which was made after the backup is lost, and reads on', async () => {
    const { organizationId, sequence } = lost.younger;
    const named = `organization ${organizationId} itself is lost: ${sequence} of its events, from 1 on.`;
    const files = [lost.files[3] ?? '', lost.files[4] ?? '', lost.files[1] ?? ''];
    const { code, output } = await runCommand(['restore:check', ...files], environmentOf(database));
    expect(code).toBe(1);
    for (const file of files.slice(0, 2)) expect(output).toContain(`${file}: ${named}`);
    expect(output).toContain(`${lost.files[1]}: `);
  });

  it('restore:check finds nothing lost where nothing is', async () => {
    const file = join(backups.folder, 'now.ndjson');
    await writeFile(
      file,
      (await service.api.call('GET', `/audit/export?organizationId=${lost.organizationId}`, operator)).text,
    );
    const { code, output } = await runCommand(['restore:check', file], environmentOf(database));
    expect([code, output]).toEqual([
      0,
      expect.stringContaining(`nothing of organization ${lost.organizationId} is lost`),
    ]);
  });

  it('restore:check does not take a file without evidence for one that shows nothing lost', async () => {
    const texts = ['garbage', `${lost.checkpoint.slice(0, -9)}AAAAAAAAA`, '{"a":1}\n{"b":2}\n', '{"a":1,'];
    const files = texts.map((_, index) => join(backups.folder, `none-${index}.txt`));
    for (const [index, file] of files.entries()) await writeFile(file, texts[index] ?? '');
    const { code, output } = await runCommand(['restore:check', ...files], environmentOf(database));
    expect(code).toBe(66);
    for (const file of files) expect(output).toContain(`${file}: tells of no organization`);
  });

  it('restore:check tells a file that it cannot read from history that is lost, and reads the others', async () => {
    const missing = join(backups.folder, 'missing.ndjson');
    const files = [missing, backups.folder, lost.files[1] ?? ''];
    const { code, output } = await runCommand(['restore:check', ...files], environmentOf(database));
    expect([code, output]).toEqual([66, expect.stringContaining(`${missing}: cannot be read (ENOENT).`)]);
    expect(output).toContain(`${backups.folder}: cannot be read (EISDIR).`);
    expect(output).toContain(`are lost, from ${lost.lastSequence + 1} on`);
    expect(output).not.toContain('    at ');
  });

  it('restore:check prints nothing of a forged event that a terminal would take for a command', async () => {
    const message = JSON.parse((await readFile(lost.files[2] ?? '', 'utf8')).split('\n')[0] ?? '') as { data: Json };
    const forge = (changes: Json): string => {
      const event = { ...message.data, ...changes } as unknown as Parameters<typeof hashOf>[0];
      return JSON.stringify({ data: { ...event, hash: hashOf(event) } });
    };
    const file = join(backups.folder, 'forged.ndjson');
    const target = { type: 'agent', id: '\u001B[2J\u009B1A\u202Ex\u2028y\nz\tw' };
    const foreign = [forge({ organizationId: 'none' }), forge({ details: null })];
    await writeFile(file, [forge({ action: 'agent.suspended\u0007', target }), ...foreign].join('\n'));
    const { code, output } = await runCommand(['restore:check', file], environmentOf(database));
    expect([code, output]).toEqual([1, expect.stringContaining('\tagent.suspended\uFFFD\tagent\t\uFFFD[2J\uFFFD1A')]);
    expect(output).toContain('\uFFFDx\uFFFDy\uFFFDz\uFFFDw\n');
    expect(output).toContain(': 1 events of organization');
  });

  it('restore:end-tokens does the same after another way of restoring, while the service runs', async () => {
    const token = await service.api.token(lost.operator);
    const { code } = await runCommand(['restore:end-tokens'], environmentOf(database));
    expect([code, (await service.api.call('GET', '/agents', token)).status]).toEqual([0, 401]);
    operator = await service.api.token(lost.operator);
    const path = `/audit?action=organization.restored&organizationId=${lost.organizationId}`;
    const { body } = await service.api.call('GET', path, operator);
    expect(body['data']).toMatchObject([
      { details: { backupTakenAt: null } },
      { details: { backupTakenAt: expect.any(String) } },
    ]);
    await expectVerifies(service, operator, lost.organizationId);
  });

  it('an operator who does it again is where he was', async () => {
    const suspended = await service.api.call('POST', `/agents/${lost.suspended}/suspend`, operator);
    expect(suspended.body).toMatchObject({ status: 'suspended' });
    expect(await service.api.introspect(operator, lost.tokens[0] ?? '')).toEqual({ active: false });
  });
});
