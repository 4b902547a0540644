import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { execFile } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { claimsOf } from '../support/api.js';
import { rechain } from '../support/chain-forgery.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

const ROOT = path.join(import.meta.dirname, '../..');
/** The built program: it runs as users run it, in a process of its own without a database. */
const VERIFIER = path.join(ROOT, 'dist/src/evidence/offline/audit-verify.js');
const INDEPENDENT = path.join(ROOT, 'test/support/independent-verifier.mjs');

interface Run {
  readonly code: number;
  readonly text: string;
  readonly verdict: Record<string, unknown>;
}

/** Runs a program with no environment: nothing leads it to a database or a server. */
function run(program: string, ...args: string[]): Promise<Run> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { env: {}, cwd: tmpdir() }, (error, stdout, stderr) => {
      const code = error === null ? 0 : Number(error.code);
      const text = stdout + stderr;
      resolve({ code, text, verdict: stdout.startsWith('{') ? (JSON.parse(stdout) as Record<string, unknown>) : {} });
    });
  });
}

describe('evidence that verifies offline', () => {
  let service: TestApp;
  let token: string;
  let folder: string;
  let lines: string[];
  let kept: string;
  let jwks: string;

  const get = (url: string, caller = token) => service.api.call('GET', url, caller);
  const file = async (name: string, content: string | Buffer | readonly string[]) => {
    const place = path.join(folder, name);
    await writeFile(
      place,
      typeof content === 'object' && !Buffer.isBuffer(content) ? `${content.join('\n')}\n` : content,
    );
    return place;
  };
  const verify = async (content: string | Buffer | readonly string[], ...more: string[]) =>
    run(VERIFIER, await file('export.ndjson', content), '--jwks', jwks, ...more);
  const issue = async (count: number) => {
    for (let number = 0; number < count; number += 1) await service.api.token(service.operator);
  };

  beforeAll(async () => {
    service = await startTestApp();
    folder = await mkdtemp(path.join(tmpdir(), 'agentidp-evidence-'));
    token = await service.api.token(service.operator);
    await issue(3);
    await get('/audit/checkpoint');
    await issue(4);
    kept = await file('kept.jws', (await get('/audit/checkpoint')).body['checkpoint'] as string);
    await issue(5);
    lines = (await get('/audit/export')).text.trimEnd().split('\n');
    jwks = await file('jwks.json', (await service.api.send('GET', '/.well-known/jwks.json')).text);
  });
  afterAll(async () => {
    await service.close();
    await rm(folder, { recursive: true });
  });

  const parsed = () => lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  const at = (sequence: number) => parsed().findIndex((line) => line['sequence'] === sequence);

  it('exports every event, oldest first, with the checkpoints between and one at the end', async () => {
    const events = parsed().filter(({ checkpoint }) => checkpoint === undefined);
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
    expect(parsed().filter(({ checkpoint }) => checkpoint !== undefined)).toHaveLength(3);
    const end = parsed().at(-1);
    expect(claimsOf(end?.['checkpoint'] as string)['sequence']).toBe(events.length);
    const { keys } = end?.['jwks'] as { keys: Record<string, unknown>[] };
    // The key that signs, and the next one.
    expect(keys.map(({ purpose }) => purpose)).toEqual(['audit', 'audit']);
    expect(events[6]).toEqual((await get(`/audit/${String(events[6]?.['eventId'])}`)).body);
  });

  it('verifies an export, plain and compressed, with and without a kept checkpoint', async () => {
    const { code, verdict } = await verify(lines);
    expect([code, verdict]).toEqual([
      0,
      {
        valid: true,
        checked: lines.length - 3,
        organizationId: claimsOf(token)['org'],
        firstSequence: 1,
        lastSequence: lines.length - 3,
        headHash: expect.stringMatching(/^[0-9a-f]{64}$/),
        checkpoints: 3,
        brokenAt: null,
        line: null,
      },
    ]);
    expect((await verify(gzipSync(`${lines.join('\n')}\n`), '--checkpoint', kept)).code).toBe(0);
  });

  it('verifies with forty lines of plain Node that share no code with the product', async () => {
    const source = await readFile(INDEPENDENT, 'utf8');
    expect([...source.matchAll(/from '([^']+)'/g)].map(([, name]) => name)).toEqual([
      'node:assert/strict',
      'node:crypto',
      'node:fs',
    ]);
    expect(source).not.toMatch(/import\(|require/);
    expect(source.trimEnd().split('\n').length).toBeLessThanOrEqual(40);
    const independent = async (content: readonly string[], keys = jwks, ...more: string[]) =>
      run(INDEPENDENT, await file('copy.ndjson', content), keys, ...more);
    const good = await independent(lines, jwks, kept);
    expect([good.code, good.text]).toEqual([0, `${lines.length - 3} events verify\n`]);
    const first = parsed().findIndex(({ checkpoint }) => checkpoint !== undefined);
    for (const [what, bad] of Object.entries({
      'an event changed': lines.map((line) => line.replace('"token.issued"', '"token.revoked"')),
      'an event removed': lines.filter((_, index) => index !== at(6)),
      'an event repeated': lines.flatMap((line, index) => (index === at(6) ? [line, line] : [line])),
      'two events changed over': lines.map((_, n) => lines[n === at(6) ? at(7) : n === at(7) ? at(6) : n] ?? ''),
      'the last line cut off': lines.slice(0, -1),
      'the last line cut in the middle': [...lines.slice(0, -1), lines.at(-1)?.slice(0, 300) ?? ''],
      'a checkpoint left out': lines.filter((_, index) => index !== first),
      'a checkpoint altered': lines.map((line) => line.replace('"checkpoint":"ey', '"checkpoint":"eX')),
      'a member twice': lines.map((line, n) => (n === at(6) ? line.replace('{', '{"action":"agent.created",') : line)),
    })) {
      expect([what, (await independent(bad)).code]).toEqual([what, 1]);
    }
    // Keys that are not for checkpoints, and none at all, vouch for nothing.
    const keys = await readFile(jwks, 'utf8');
    const others = await file('others.json', keys.replaceAll('"purpose":"audit"', '"purpose":"access_token"'));
    expect((await independent(lines, others)).code).toBe(1);
    // The beginning of the log alone is not the log of a checkpoint that was kept from later.
    expect((await independent(lines.slice(0, first + 1))).code).toBe(0);
    expect((await independent(lines.slice(0, first + 1), jwks, kept)).code).toBe(1);
  });

  it('goes on where an export broke off, and verifies both parts joined', async () => {
    const rest = (await get('/audit/export?fromSequence=6')).text.trimEnd().split('\n');
    expect((await verify([...lines.slice(0, at(6)), ...rest])).verdict).toMatchObject({
      valid: true,
      firstSequence: 1,
    });
    expect((await verify(rest)).verdict).toMatchObject({ valid: true, firstSequence: 6 });
    const beyond = await get('/audit/export?fromSequence=100000');
    expect([beyond.status, beyond.text.trimEnd().split('\n').length]).toEqual([200, 1]);
  });

  it('begins with the checkpoint over what comes before, where there is one', async () => {
    const first = claimsOf(await readFile(kept, 'utf8'))['sequence'] as number;
    const rest = (await get(`/audit/export?fromSequence=${first + 1}`)).text.trimEnd().split('\n');
    expect(Object.keys(JSON.parse(rest[0] ?? '') as object)).toEqual(['checkpoint']);
    expect((await verify(rest, '--checkpoint', kept)).verdict).toMatchObject({ valid: true, firstSequence: first + 1 });
    const altered = rest.map((line, index) =>
      index === 1 ? line.replace(/"previousHash":"./, '"previousHash":"x') : line,
    );
    expect((await verify(altered)).verdict).toMatchObject({ valid: false, reason: 'link_broken', brokenAt: first + 1 });
  });

  it('compresses where the client asks for it, and answers a client that takes nothing but identity', async () => {
    const ask = (encoding: string) =>
      fetch(`${service.url}/api/v1/audit/export`, {
        headers: { Authorization: `Bearer ${token}`, 'Accept-Encoding': encoding },
      });
    const zipped = await ask('gzip');
    expect(zipped.headers.get('content-encoding')).toBe('gzip');
    expect((await zipped.text()).trimEnd().split('\n')).toHaveLength(lines.length);
    for (const encoding of ['identity', 'gzip;q=0, br', '']) {
      const plain = await ask(encoding);
      expect(plain.headers.get('content-encoding')).toBeNull();
      expect(plain.headers.get('content-type')).toContain('application/x-ndjson');
      await plain.text();
    }
  });

  it.each([
    [
      'an event changed',
      (all: string[]) => all.map((line, n) => (n === at(6) ? line.replace('token.issued', 'token.forged') : line)),
      'event_altered',
      6,
    ],
    ['an event removed', (all: string[]) => all.filter((_, n) => n !== at(6)), 'event_missing', 6],
    [
      'a line repeated',
      (all: string[]) => all.flatMap((line, n) => (n === at(6) ? [line, line] : [line])),
      'event_repeated',
      6,
    ],
    [
      'two lines changed over',
      (all: string[]) => all.map((_, n) => all[n === at(6) ? at(7) : n === at(7) ? at(6) : n] ?? ''),
      'event_missing',
      6,
    ],
    ['the last line cut off', (all: string[]) => all.slice(0, -1), 'truncated', null],
    [
      'a checkpoint left out',
      (all: string[]) =>
        all.filter((line, n) => n === all.length - 1 || !line.startsWith('{"checkpoint"') || n > at(8)),
      'checkpoint_missing',
      null,
    ],
    [
      'a checkpoint altered',
      (all: string[]) => all.map((line) => line.replace('"checkpoint":"ey', '"checkpoint":"eX')),
      'checkpoint_not_authentic',
      null,
    ],
    [
      'a member twice',
      (all: string[]) => all.map((line, n) => (n === at(6) ? line.replace('{', '{"action":"agent.created",') : line)),
      'not_canonical',
      6,
    ],
    [
      'a member more',
      (all: string[]) =>
        all.map((line, n) => (n === at(6) ? line.replace('}}', '},"x":1}').replace(/\}$/, ',"z":1}') : line)),
      null,
      null,
    ],
    ['no JSON', (all: string[]) => all.map((line, n) => (n === at(6) ? 'forged' : line)), 'not_json', 6],
    ['something else', (all: string[]) => all.map((line, n) => (n === at(6) ? '[1,2]' : line)), 'not_an_event', 6],
    [
      'nesting without end',
      (all: string[]) => all.map((line, n) => (n === at(6) ? '['.repeat(50_000) + ']'.repeat(50_000) : line)),
      'not_canonical',
      6,
    ],
  ])('says what is wrong: %s', async (_, tamper, reason, brokenAt) => {
    const { code, verdict } = await verify(tamper(lines));
    expect([code, verdict['valid']]).toEqual([1, false]);
    if (reason !== null) expect(verdict['reason']).toBe(reason);
    if (brokenAt !== null) expect(verdict['brokenAt']).toBe(brokenAt);
  });

  it('says of a file cut in the middle of a line that it is cut', async () => {
    const whole = `${lines.join('\n')}\n`;
    for (const content of [whole.slice(0, 2500), '', gzipSync(whole).subarray(0, 800)]) {
      const { code, verdict } = await verify(content);
      expect([code, verdict['reason']]).toEqual([1, 'truncated']);
    }
  });

  it('says of a line of 100 MB that it is too long, in little memory', async () => {
    const place = path.join(folder, 'long.ndjson');
    const stream = createWriteStream(place);
    stream.write(`${lines[0] ?? ''}\n`);
    for (let megabyte = 0; megabyte < 100; megabyte += 1) stream.write(Buffer.alloc(1024 * 1024, 'x'));
    await new Promise<void>((resolve) => stream.end(() => resolve()));
    // A heap that has no room for such a line.
    const { code, verdict } = await run('--max-old-space-size=32', VERIFIER, place, '--jwks', jwks);
    expect([code, verdict['reason'], verdict['line']]).toEqual([1, 'line_too_long', 2]);
  });

  it('finds a log written anew by the checkpoint that was kept', async () => {
    const own = await startTestApp();
    try {
      const caller = await own.api.token(own.operator);
      const checkpoint = (await own.api.call('GET', '/audit/checkpoint', caller)).body['checkpoint'] as string;
      await own.database.query("UPDATE audit_events SET user_agent = 'nobody' WHERE sequence = 2");
      await rechain(own.database, claimsOf(caller)['org'] as string);
      await own.database.query('TRUNCATE audit_trees, audit_checkpoints, audit_tree_tiles');
      const forged = (await own.api.call('GET', '/audit/export', caller)).text;
      const keys = await file('own.json', (await own.api.send('GET', '/.well-known/jwks.json')).text);
      const place = await file('forged.ndjson', forged);
      expect((await run(VERIFIER, place, '--jwks', keys)).code).toBe(0);
      const found = await run(VERIFIER, place, '--jwks', keys, '--checkpoint', await file('own.jws', checkpoint));
      expect([found.code, found.verdict['reason']]).toEqual([1, 'kept_mismatch']);
    } finally {
      await own.close();
    }
  });

  it('verifies receipts and consistency proofs, and takes none that was changed', async () => {
    const events = parsed().filter(({ checkpoint }) => checkpoint === undefined);
    for (const { eventId } of events) {
      const receipt = await get(`/audit/${String(eventId)}/receipt`);
      expect(receipt.status).toBe(200);
      const { code, verdict } = await run(VERIFIER, await file('receipt.json', receipt.text), '--jwks', jwks);
      expect([code, verdict['valid']]).toEqual([0, true]);
    }
    const receipt = (await get(`/audit/${String(events[5]?.['eventId'])}/receipt`)).body as Record<string, unknown> & {
      event: Record<string, unknown>;
      inclusionPath: string[];
    };
    for (const changed of [
      { ...receipt, event: { ...receipt.event, action: 'agent.created' } },
      { ...receipt, inclusionPath: receipt.inclusionPath.slice(1) },
      { ...receipt, inclusionPath: [...receipt.inclusionPath, receipt.inclusionPath[0]] },
      { ...receipt, inclusionPath: [...receipt.inclusionPath].reverse() },
      { ...receipt, leafIndex: 4 },
      { ...receipt, treeSize: 3 },
      { ...receipt, checkpoint: `${String(receipt['checkpoint']).slice(0, -4)}AAAA` },
      { ...receipt, checkpoint: 5 },
      { ...receipt, inclusionPath: 'x' },
    ]) {
      const { code } = await run(VERIFIER, await file('receipt.json', JSON.stringify(changed)), '--jwks', jwks);
      expect(code).toBe(1);
    }
    const [last, middle, first] = (await get('/audit/checkpoints')).body['data'] as { sequence: number }[];
    for (const [from, to] of [
      [first, last],
      [first, middle],
      [middle, last],
      [last, last],
    ]) {
      const proof = await get(`/audit/consistency?from=${from?.sequence}&to=${to?.sequence}`);
      expect((await run(VERIFIER, await file('proof.json', proof.text), '--jwks', jwks)).code).toBe(0);
      const forged = JSON.stringify({ ...proof.body, from: proof.body['to'], to: proof.body['from'] });
      expect((await run(VERIFIER, await file('proof.json', forged), '--jwks', jwks)).code).toBe(from === to ? 0 : 1);
    }
  }, 60_000);

  it('tells wrong usage and unreadable input from a log that does not verify', async () => {
    const good = await file('good.ndjson', lines);
    expect((await run(VERIFIER)).code).toBe(64);
    expect((await run(VERIFIER, good, '--unknown')).code).toBe(64);
    expect((await run(VERIFIER, good, '--jwks', path.join(folder, 'missing'))).code).toBe(66);
    expect((await run(VERIFIER, path.join(folder, 'missing'), '--jwks', jwks)).code).toBe(66);
    expect((await run(VERIFIER, good, '--jwks', good)).code).toBe(66);
    expect((await run(VERIFIER, good, '--jwks', `${service.url}/.well-known/jwks.json`)).code).toBe(0);
  });

  it('verifies a checkpoint by itself, and tells one that was changed', async () => {
    const { checkpoint } = (await get('/audit/checkpoint')).body as { checkpoint: string };
    const kept = await run(VERIFIER, await file('checkpoint.jws', `${checkpoint}\n`), '--jwks', jwks);
    expect([kept.code, kept.verdict]).toEqual([
      0,
      { valid: true, proves: expect.stringContaining(' was the last, with') },
    ]);
    // As it was answered, alone, with what it states, and at the end of an export without events.
    const listed = (await get('/audit/checkpoints')).body['data'] as unknown[];
    for (const content of [
      JSON.stringify({ checkpoint }),
      JSON.stringify(listed[0], null, 2),
      (await get('/audit/export?fromSequence=100000')).text,
    ]) {
      const answered = await run(VERIFIER, await file('checkpoint.json', content), '--jwks', jwks);
      expect([answered.code, answered.verdict]).toEqual([0, { valid: true, proves: expect.any(String) }]);
    }
    const forged = `${checkpoint.slice(0, -4)}AAAA`;
    for (const content of [forged, JSON.stringify({ checkpoint: forged })]) {
      const found = await run(VERIFIER, await file('checkpoint.jws', content), '--jwks', jwks);
      expect([found.code, found.verdict]).toEqual([1, { valid: false, reason: 'checkpoint_not_authentic' }]);
    }
  });

  it('verifies growth since a checkpoint that was kept and stands in no list', async () => {
    const organizationId = claimsOf(token)['org'];
    const checkpoint = async () => (await get('/audit/checkpoint')).body['checkpoint'] as string;
    // As if the hour had 300 already.
    await service.database.query(
      "INSERT INTO audit_checkpoints SELECT $1, -n, 'x', now() FROM generate_series(1, 300) n",
      [organizationId],
    );
    await issue(1);
    const alone = await checkpoint();
    await service.database.query('DELETE FROM audit_checkpoints WHERE sequence < 0');
    await issue(3);
    const later = await checkpoint();
    const from = claimsOf(alone)['sequence'] as number;
    const proof = await get(`/audit/consistency?from=${from}&to=${claimsOf(later)['sequence'] as number}`);
    expect([proof.status, proof.body['from'], proof.body['to']]).toEqual([200, null, later]);
    const place = await file('growth.json', proof.text);
    const check = async (...more: string[]) => run(VERIFIER, place, '--jwks', jwks, ...more);
    const good = await check('--checkpoint', await file('alone.jws', alone));
    expect([good.code, good.verdict]).toEqual([0, { valid: true, proves: expect.stringContaining(`with ${from}`) }]);
    for (const [other, reason] of [
      [await readFile(kept, 'utf8'), 'proof_wrong'],
      [`${alone.slice(0, -4)}AAAA`, 'checkpoint_not_authentic'],
    ] as const) {
      const { code, verdict } = await check('--checkpoint', await file('other.jws', other));
      expect([code, verdict['reason']]).toEqual([1, reason]);
    }
    const { code, verdict } = await check();
    expect([code, verdict['reason']]).toEqual([1, 'checkpoint_needed']);
  });

  it('verifies the receipt of a revocation, alone and in its answer, and finds what was altered', async () => {
    const agent = await service.api.agent(token);
    await service.api.token(agent);
    const selector = { agentId: agent.agentId, issuedBefore: new Date(service.clock.nowMs()).toISOString() };
    const { body: answer, text } = await service.api.call('POST', '/revocations', token, { selector });
    const receipt = answer['receipt'] as string;
    const proves = expect.stringMatching(
      `issued before ${selector.issuedBefore} to agentId ${agent.agentId} are dead since ${answer['effectiveAt'] as string}`,
    );
    for (const content of [
      text,
      receipt,
      `${receipt}\n`,
      JSON.stringify({ receipt }),
      JSON.stringify(answer, null, 2),
    ]) {
      expect(await verify(Buffer.from(content))).toMatchObject({ code: 0, verdict: { valid: true, proves } });
    }
    for (const [member, value] of [
      ['tokens', 0],
      ['effectiveAt', '2026-01-01T00:00:00.000Z'],
      ['eventId', agent.agentId],
    ] as const) {
      const { code, verdict } = await verify(Buffer.from(JSON.stringify({ ...answer, [member]: value })));
      expect([member, code, verdict]).toEqual([member, 1, { valid: false, reason: 'answer_altered' }]);
    }
    // Another payload under the signature, and statements of other kinds under the same key.
    const [header, payload = '', signature] = receipt.split('.');
    const claims = { ...claimsOf(receipt), tokens: 7 };
    const forged = [header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.');
    const checkpoint = (await get('/audit/checkpoint')).body['checkpoint'] as string;
    for (const other of [forged, JSON.stringify({ receipt: checkpoint }), `${payload}.${payload}.${payload}`]) {
      const { code, verdict } = await verify(Buffer.from(other));
      expect([code, verdict]).toEqual([1, { valid: false, reason: 'receipt_not_authentic' }]);
    }
  });
});
