import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { canonicalJson, genesisHash, hashOf, type ChainedEvent } from '../../src/platform/kernel/canonical-event.js';
import { checkpointHash } from '../../src/evidence/checkpoint.js';
import { GrowingTree, inclusionPath, leafHash, nodeHash, type SubtreeHash } from '../../src/evidence/merkle.js';
import { auditKeysIn } from '../../src/evidence/offline/audit-keys.js';
import { NothingToCompare, verifyFile } from '../../src/evidence/offline/verify-file.js';

/*
 * Whoever hands evidence over may have made the file. Here the audit key is the test's own, so that what is refused is
 * refused for what it says and not for a signature that does not fit.
 */
const ORGANIZATION = '3f1b7c52-2f0e-4b55-9c7e-1a2b3c4d5e6f';
const FOREIGN = '11111111-1111-4111-8111-111111111111';
const TYP = 'audit-checkpoint+jwt';
const EVENTS = 7;
/** What gzip reads at one time. */
const READ = 64 * 1024;

const audit = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = (key: KeyObject, more: object = {}) => ({
  ...key.export({ format: 'jwk' }),
  kid: 'audit-key',
  alg: 'ES256',
  use: 'sig',
  purpose: 'audit',
  ...more,
});
const jwks = (...keys: unknown[]) => JSON.stringify({ keys });
const KEYS = auditKeysIn(jwks(jwk(audit.publicKey)));

function jws(payload: object | string, header: object = {}, dsaEncoding: 'ieee-p1363' | 'der' = 'ieee-p1363'): string {
  const text = typeof payload === 'string' ? payload : canonicalJson(payload);
  const input = [JSON.stringify({ alg: 'ES256', kid: 'audit-key', typ: TYP, ...header }), text]
    .map((part) => Buffer.from(part).toString('base64url'))
    .join('.');
  const signature = sign('sha256', Buffer.from(input), { key: audit.privateKey, dsaEncoding });
  return `${input}.${signature.toString('base64url')}`;
}

function chain(change: (event: ChainedEvent) => ChainedEvent = (event) => event): ChainedEvent[] {
  const events: ChainedEvent[] = [];
  for (let sequence = 1; sequence <= EVENTS; sequence += 1) {
    const event = change({
      eventId: `00000000-0000-7000-8000-${String(sequence).padStart(12, '0')}`,
      sequence,
      organizationId: ORGANIZATION,
      action: 'token.issued',
      outcome: 'success',
      actor: null,
      target: { type: 'token', id: String(sequence) },
      ip: '203.0.113.7',
      userAgent: 'agent/1.0',
      details: { scope: 'agents:read', note: 'é “x”' },
      occurredAt: '2026-01-01T00:00:00.000Z',
      previousHash: events.at(-1)?.hash ?? genesisHash(ORGANIZATION),
      hash: '',
    });
    events.push({ ...event, hash: hashOf(event) });
  }
  return events;
}

const leavesOf = (events: readonly ChainedEvent[]) => events.map(({ hash }) => leafHash(Buffer.from(hash, 'hex')));

function stated(events: readonly ChainedEvent[], count: number, previousCheckpointHash: string | null = null) {
  const tree = new GrowingTree();
  for (const leaf of leavesOf(events.slice(0, count))) tree.append(leaf);
  return {
    organizationId: ORGANIZATION,
    sequence: count,
    hash: events[count - 1]?.hash ?? '',
    rootHash: tree.root().toString('hex'),
    issuedAt: '2026-01-01T00:01:00.000Z',
    previousCheckpointHash,
  };
}

const TRUE = chain();
const FIRST = stated(TRUE, 3);
const MIDDLE = jws(FIRST);
const LAST_STATES = stated(TRUE, EVENTS, checkpointHash(MIDDLE));
const LAST = jws(LAST_STATES);
const LINES = [
  ...TRUE.slice(0, 3).map(canonicalJson),
  canonicalJson({ checkpoint: MIDDLE }),
  ...TRUE.slice(3).map(canonicalJson),
  canonicalJson({ checkpoint: LAST, jwks: { keys: [] } }),
];
/** The same chain but for one event, as somebody else may have been shown it. */
const SPLIT = chain((event) => (event.sequence === 5 ? { ...event, userAgent: 'nobody' } : event));
const SPLIT_LAST = jws(stated(SPLIT, EVENTS, checkpointHash(MIDDLE)));

const joined = (lines: readonly string[]) => `${lines.join('\n')}\n`;
const line = (at: number, change: (text: string) => string) =>
  joined(LINES.map((text, index) => (index === at ? change(text) : text)));
const last = (checkpoint: string) => line(LINES.length - 1, () => canonicalJson({ checkpoint }));
const zipped = (...texts: string[]) => Buffer.concat(texts.map((text) => gzipSync(text)));

/** A member of a compressed file that ends where a read of the file ends. */
function memberOf(text: string, length: number): Buffer {
  const plain = gzipSync(text, { level: 0 });
  // The optional name of RFC 1952 §2.3.1 takes what room is left.
  const header = Buffer.from(plain.subarray(0, 10));
  header[3] = 8;
  return Buffer.concat([header, Buffer.alloc(length - plain.length - 1, 'x'), Buffer.of(0), plain.subarray(10)]);
}

function wrongChecksum(file: Buffer): Buffer {
  return Buffer.concat([file.subarray(0, -8), Buffer.alloc(4), file.subarray(-4)]);
}

describe('a hostile file of evidence', () => {
  let folder: string;

  const verify = async (content: string | Buffer, kept: string | null = null) => {
    const file = path.join(folder, 'evidence');
    await writeFile(file, content);
    return verifyFile(file, (kid) => Promise.resolve(KEYS.get(kid) ?? null), kept);
  };

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'agentidp-hostile-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('is not what verifies', async () => {
    for (const good of [
      joined(LINES),
      zipped(joined(LINES)),
      zipped(joined(LINES.slice(0, 4)), joined(LINES.slice(4))),
    ]) {
      expect(await verify(good)).toMatchObject({ valid: true, checked: EVENTS, checkpoints: 2 });
    }
    expect(await verify(joined(LINES), MIDDLE)).toMatchObject({ valid: true });
    expect(await verify(joined(LINES), LAST)).toMatchObject({ valid: true });
    expect(await verify(last(LAST))).toMatchObject({ valid: true });
  });

  it.each<[string, string | Buffer, string]>([
    ['a byte order mark', `\ufeff${joined(LINES)}`, 'not_json'],
    ['lines that end as on Windows', LINES.join('\r\n') + '\r\n', 'not_canonical'],
    ['a NUL before a line', line(2, (text) => `\0${text}`), 'not_json'],
    ['a NUL within a string', line(2, (text) => text.replace('agent/1.0', 'agent\0')), 'not_json'],
    ['an empty line', line(2, (text) => `\n${text}`), 'not_json'],
    ['text in UTF-16', Buffer.from(joined(LINES), 'utf16le'), 'not_json'],
    ['a member twice', line(2, (text) => text.replace('{', '{"action":"agent.created",')), 'not_canonical'],
    ['a member twice further in', line(2, (text) => text.replace('"note"', '"note":1,"note"')), 'not_canonical'],
    ['__proto__ beside the members', line(2, (text) => text.replace(/\}$/, ',"__proto__":{"x":1}}')), 'not_canonical'],
    ['__proto__ in place of a member', line(2, (text) => text.replace('"action"', '"__proto__"')), 'not_an_event'],
    ['__proto__ in the details', line(2, (text) => text.replace('"note"', '"__proto__":{},"note"')), 'event_altered'],
    ['a number without end', line(2, (text) => text.replace('"agents:read"', '1e400')), 'not_canonical'],
    ['a number written otherwise', line(2, (text) => text.replace('"sequence":3', '"sequence":3.0')), 'not_canonical'],
    ['a sequence between two numbers', line(2, (text) => text.replace(':3,', ':9007199254740993,')), 'not_canonical'],
    ['the greatest sequence', line(2, (text) => text.replace(':3,', ':9007199254740991,')), 'event_missing'],
    ['sequence 0', line(0, (text) => text.replace('"sequence":1', '"sequence":0')), 'not_an_event'],
    ['a negative sequence', line(0, (text) => text.replace('"sequence":1', '"sequence":-1')), 'not_an_event'],
    ['a target that is none', line(2, (text) => text.replace(/"target":\{[^}]*\}/, '"target":null')), 'not_an_event'],
    ['an event beside a checkpoint', line(3, () => canonicalJson({ ...TRUE[2], checkpoint: MIDDLE })), 'not_an_event'],
    ['a remark beside a checkpoint', line(3, () => canonicalJson({ checkpoint: MIDDLE, x: 1 })), 'not_an_event'],
    ['a line behind the end', `${joined(LINES)}${LINES[0] ?? ''}\n`, 'event_repeated'],
    [
      'a checkpoint of another organization',
      last(jws({ ...LAST_STATES, organizationId: FOREIGN })),
      'checkpoint_foreign',
    ],
    ['a checkpoint from the future', last(jws({ ...LAST_STATES, sequence: EVENTS + 1 })), 'event_missing'],
    ['a checkpoint over another chain', last(SPLIT_LAST), 'checkpoint_mismatch'],
    ['a checkpoint with another root', last(jws({ ...LAST_STATES, rootHash: FIRST.rootHash })), 'checkpoint_mismatch'],
    ['a checkpoint that names none before it', last(jws(stated(TRUE, EVENTS))), 'checkpoint_missing'],
    ['two checkpoints in each other’s place', joined([LINES[8] ?? '', ...LINES.slice(0, 8)]), 'event_repeated'],
    ['another typ', last(jws(LAST_STATES, { typ: 'audit-cut+jwt' })), 'checkpoint_not_authentic'],
    ['no typ', last(jws(LAST_STATES, { typ: undefined })), 'checkpoint_not_authentic'],
    ['an unknown extension', last(jws(LAST_STATES, { crit: ['x'], x: 1 })), 'checkpoint_not_authentic'],
    [
      'a payload that is not encoded',
      last(jws(LAST_STATES, { crit: ['b64'], b64: false })),
      'checkpoint_not_authentic',
    ],
    ['an extension list without any', last(jws(LAST_STATES, { crit: [] })), 'checkpoint_not_authentic'],
    ['another algorithm', last(jws(LAST_STATES, { alg: 'ES384' })), 'checkpoint_not_authentic'],
    ['no algorithm', last(jws(LAST_STATES, { alg: 'none' })), 'checkpoint_not_authentic'],
    ['a MAC', last(jws(LAST_STATES, { alg: 'HS256' })), 'checkpoint_not_authentic'],
    ['a key that is not known', last(jws(LAST_STATES, { kid: '__proto__' })), 'checkpoint_not_authentic'],
    [
      'a key that came with it',
      last(jws(LAST_STATES, { kid: 'x', jwk: jwk(audit.publicKey) })),
      'checkpoint_not_authentic',
    ],
    ['a signature in DER', last(jws(LAST_STATES, {}, 'der')), 'checkpoint_not_authentic'],
    ['a signature of zeros', last(LAST.replace(/[^.]*$/, 'A'.repeat(86))), 'checkpoint_not_authentic'],
    ['no signature', last(LAST.replace(/[^.]*$/, '')), 'checkpoint_not_authentic'],
    ['a signature of four parts', last(`${LAST}.x`), 'checkpoint_not_authentic'],
    ['a payload that is no JSON', last(jws('x')), 'checkpoint_not_authentic'],
    ['a payload that is null', last(jws('null')), 'checkpoint_not_authentic'],
    ['a sequence that is text', last(jws({ ...LAST_STATES, sequence: '7' })), 'checkpoint_not_authentic'],
    ['a sequence too great', last(jws(canonicalJson(LAST_STATES).replace(':7', ':1e400'))), 'checkpoint_not_authentic'],
    ['a checkpoint too long', last(jws({ ...LAST_STATES, x: 'x'.repeat(4096) })), 'checkpoint_not_authentic'],
    ['a bomb of zeros', gzipSync(Buffer.alloc(64 * 1024 * 1024)), 'line_too_long'],
    ['a bomb of lines', gzipSync(Buffer.alloc(64 * 1024 * 1024, '\n')), 'not_json'],
    ['a compressed file that is cut', zipped(joined(LINES)).subarray(0, -9), 'truncated'],
    ['a second member with another event', zipped(joined(LINES), `${LINES[0] ?? ''}\n`), 'event_repeated'],
    [
      'a second member that is damaged',
      Buffer.concat([zipped(joined(LINES)), Buffer.from('damage')]),
      'compression_damaged',
    ],
    [
      'a member behind padding',
      Buffer.concat([zipped(joined(LINES)), Buffer.alloc(9), zipped(`${LINES[0] ?? ''}\n`)]),
      'compression_damaged',
    ],
    [
      'a second member where a read ends',
      Buffer.concat([memberOf(joined(LINES), READ), zipped(`${LINES[0] ?? ''}\n`)]),
      'event_repeated',
    ],
    ['a checksum that is wrong', wrongChecksum(zipped(joined(LINES))), 'compression_damaged'],
  ])('is refused with %s', async (_what, content, reason) => {
    expect(await verify(content)).toMatchObject({ valid: false, reason });
  });

  it.each([
    ['that contradicts the file', SPLIT_LAST, 'kept_mismatch'],
    ['of another organization', jws({ ...FIRST, organizationId: FOREIGN }), 'kept_foreign'],
    ['from later', jws({ ...LAST_STATES, sequence: EVENTS + 1 }), 'kept_not_reached'],
    ['under another key', jws(LAST_STATES, { kid: 'other' }), 'kept_not_authentic'],
    ['that is none', 'x', 'kept_not_authentic'],
  ])('is refused beside a kept checkpoint %s', async (_what, kept, reason) => {
    expect(await verify(joined(LINES), kept)).toMatchObject({ valid: false, reason });
  });

  it('that begins with a checkpoint is compared with a kept one over as many events', async () => {
    const rest = joined(LINES.slice(3));
    expect(await verify(rest, MIDDLE)).toMatchObject({ valid: true, firstSequence: 4 });
    // Signed for the reader alone: another JWS that states the same.
    const alone = jws({ ...FIRST, issuedAt: '2026-01-01T00:02:00.000Z' });
    expect(await verify(rest, alone)).toMatchObject({ valid: true, firstSequence: 4 });
    const contradicts = jws({ ...FIRST, rootHash: LAST_STATES.rootHash });
    expect(await verify(rest, contradicts)).toMatchObject({ valid: false, reason: 'kept_mismatch', brokenAt: 3 });
  });

  it('is not a folder, and is not passed over in silence beside a kept checkpoint', async () => {
    const place = path.join(folder, 'folder');
    await mkdir(place);
    const findKey = (kid: string) => Promise.resolve(KEYS.get(kid) ?? null);
    await expect(verifyFile(place, findKey, null)).rejects.toThrow('is not a regular file');
    for (const single of [MIDDLE, JSON.stringify(await receiptOf(4)), JSON.stringify({ receipt: MIDDLE })]) {
      await expect(verify(single, LAST)).rejects.toThrow(NothingToCompare);
    }
  });

  describe('as a receipt', () => {
    it('verifies as it is given, pretty-printed or not', async () => {
      for (let sequence = 1; sequence <= EVENTS; sequence += 1) {
        const receipt = await receiptOf(sequence);
        expect(await verify(JSON.stringify(receipt))).toMatchObject({ valid: true });
        expect(await verify(JSON.stringify(receipt, null, 2))).toMatchObject({ valid: true });
      }
    });

    it.each<[string, (receipt: Receipt) => unknown, string]>([
      ['an index out of range', (receipt) => ({ ...receipt, leafIndex: EVENTS }), 'proof_wrong'],
      ['a negative index', (receipt) => ({ ...receipt, leafIndex: -1 }), 'proof_wrong'],
      ['an index that is text', (receipt) => ({ ...receipt, leafIndex: '3' }), 'proof_wrong'],
      ['a tree without leaves', (receipt) => ({ ...receipt, treeSize: 0 }), 'proof_wrong'],
      ['a tree that is larger', (receipt) => ({ ...receipt, treeSize: 8 }), 'proof_wrong'],
      ['a smaller tree', (receipt) => ({ ...receipt, treeSize: 3, checkpoint: MIDDLE }), 'proof_wrong'],
      [
        'a tree without leaves under a checkpoint of none',
        (receipt) => ({ ...receipt, treeSize: 0, checkpoint: jws({ ...LAST_STATES, sequence: 0 }) }),
        'checkpoint_not_authentic',
      ],
      ['a path too long', (receipt) => ({ ...receipt, inclusionPath: Array(65).fill(LAST_STATES.hash) }), 'malformed'],
      [
        'a path one longer',
        (receipt) => ({ ...receipt, inclusionPath: [...receipt.inclusionPath, LAST_STATES.hash] }),
        'proof_wrong',
      ],
      ['no path', (receipt) => ({ ...receipt, inclusionPath: [] }), 'proof_wrong'],
      ['a path that is none', (receipt) => ({ ...receipt, inclusionPath: { length: 1 } }), 'malformed'],
      [
        'hashes in capitals',
        (receipt) => ({ ...receipt, inclusionPath: receipt.inclusionPath.map((hash) => hash.toUpperCase()) }),
        'malformed',
      ],
      ['no event', (receipt) => ({ ...receipt, event: null }), 'malformed'],
      ['sequence 0', (receipt) => ({ ...receipt, event: { ...receipt.event, sequence: 0 } }), 'malformed'],
      ['a checkpoint of another organization', foreignReceipt, 'checkpoint_foreign'],
      ['a checkpoint over another chain', (receipt) => ({ ...receipt, checkpoint: SPLIT_LAST }), 'proof_wrong'],
    ])('is refused with %s', async (_what, change, reason) => {
      expect(await verify(JSON.stringify(change(await receiptOf(4))))).toEqual({ valid: false, reason });
    });

    it.each<[string, (text: string) => string]>([
      ['a member twice', (text) => text.replace('"leafIndex"', '"leafIndex":9,"leafIndex"')],
      ['its event twice', (text) => text.replace('"event"', '"event":{"action":"agent.created"},"event"')],
      ['a member of its event twice', (text) => text.replace('"action"', '"action":"agent.created","action"')],
      ['a member twice, once escaped', (text) => text.replace('"action"', '"\\u0061ction":"agent.created","action"')],
      ['a number without end', (text) => text.replace('"agents:read"', '1e400')],
      ['a sequence between two numbers', (text) => text.replace('"sequence":4', '"sequence":9007199254740993')],
      ['nesting without end', (text) => text.replace('"agents:read"', '['.repeat(50_000) + ']'.repeat(50_000))],
    ])('is malformed with %s', async (_what, change) => {
      const text = JSON.stringify(await receiptOf(4));
      expect(change(text)).not.toBe(text);
      expect(await verify(change(text))).toEqual({ valid: false, reason: 'malformed' });
    });
  });

  describe('as a consistency proof', () => {
    it('is refused where two checkpoints contradict each other', async () => {
      const proof = (from: string, to: string, consistencyPath: string[] = []) =>
        verify(JSON.stringify({ from, to, consistencyPath }));
      expect(await proof(LAST, LAST)).toMatchObject({ valid: true });
      // Two checkpoints of one organization over as many events: the log was shown to two readers in two ways.
      expect(await proof(LAST, SPLIT_LAST)).toEqual({ valid: false, reason: 'proof_wrong' });
      expect(await proof(LAST, MIDDLE)).toEqual({ valid: false, reason: 'proof_wrong' });
      expect(await proof(MIDDLE, LAST, Array<string>(65).fill(FIRST.hash))).toEqual({
        valid: false,
        reason: 'malformed',
      });
      const foreign = jws({ ...LAST_STATES, organizationId: FOREIGN });
      expect(await proof(LAST, foreign)).toEqual({ valid: false, reason: 'checkpoint_foreign' });
      const twice = `{"from":"x","from":"${LAST}","to":"${LAST}","consistencyPath":[]}`;
      expect(await verify(twice)).toEqual({ valid: false, reason: 'malformed' });
      expect(await verify(JSON.stringify({ from: null, to: LAST, consistencyPath: [] }), SPLIT_LAST)).toEqual({
        valid: false,
        reason: 'proof_wrong',
      });
    });
  });

  it('is refused as an answer that has a member twice', async () => {
    expect(await verify(`{"checkpoint":"${SPLIT_LAST}","checkpoint":"${LAST}"}`)).toEqual({
      valid: false,
      reason: 'malformed',
    });
    expect(await verify(`{"tokens":0,"tokens":5,"receipt":"${LAST}"}`)).toEqual({ valid: false, reason: 'malformed' });
  });
});

describe('the keys of a JWK Set', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey;

  it('are those for checkpoints, whatever else stands there', () => {
    const set = jwks(
      jwk(other.publicKey, { kid: 'tokens', purpose: undefined }),
      jwk(other.publicKey, { kid: 'access', purpose: 'access_token' }),
      jwk(rsa, { kid: 'rsa', alg: 'RS256' }),
      jwk(rsa, { kid: 'rsa as ES256' }),
      jwk(p384, { kid: 'p384' }),
      { kty: 'oct', k: 'AAAA', kid: 'mac', alg: 'HS256', purpose: 'audit' },
      { kty: 'oct', k: 'AAAA', kid: 'mac as ES256', alg: 'ES256', purpose: 'audit' },
      { kty: 'RSA', n: 'AQAB', e: 'AQAB', kid: 'short', alg: 'RS256', purpose: 'audit' },
      { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', kid: 'no point', alg: 'ES256', purpose: 'audit' },
      jwk(other.publicKey, { kid: 'none', alg: 'none' }),
      jwk(other.publicKey, { kid: 7 }),
      jwk(audit.publicKey),
      jwk(audit.publicKey),
    );
    expect([...auditKeysIn(set).keys()]).toEqual(['audit-key']);
  });

  it.each([
    ['no audit key', jwks(), 'has no audit key'],
    ['no keys', '{}', 'is not a JWK Set'],
    ['null for a key', jwks(null), 'is not a JWK Set'],
    ['keys that are no list', '{"keys":{"length":1}}', 'is not a JWK Set'],
    ['no JSON', 'x', 'is not a JWK Set'],
    ['null', 'null', 'is not a JWK Set'],
    ['one kid for two keys', jwks(jwk(audit.publicKey), jwk(other.publicKey)), 'has two keys audit-key'],
    ['a private key', jwks(jwk(audit.privateKey)), 'holds a private key'],
  ])('are refused with %s', (_what, text, reason) => {
    expect(() => auditKeysIn(text)).toThrow(reason);
  });
});

interface Receipt {
  readonly event: ChainedEvent;
  readonly leafIndex: number;
  readonly treeSize: number;
  readonly inclusionPath: readonly string[];
  readonly checkpoint: string;
}

async function receiptOf(sequence: number): Promise<Receipt> {
  const leaves = leavesOf(TRUE);
  const subtree: SubtreeHash = async (height, index) => {
    if (height === 0) return leaves[index] as Buffer;
    return nodeHash(await subtree(height - 1, 2 * index), await subtree(height - 1, 2 * index + 1));
  };
  const found = await inclusionPath(subtree, sequence - 1, EVENTS);
  return {
    event: TRUE[sequence - 1] as ChainedEvent,
    leafIndex: sequence - 1,
    treeSize: EVENTS,
    inclusionPath: found.map((hash) => hash.toString('hex')),
    checkpoint: LAST,
  };
}

function foreignReceipt(receipt: Receipt): Receipt {
  return { ...receipt, checkpoint: jws({ ...LAST_STATES, organizationId: FOREIGN }) };
}
