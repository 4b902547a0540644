// Written from docs/audit-evidence.md alone: node independent-verifier.mjs FILE JWKS_FILE [KEPT_CHECKPOINT_FILE]
import assert from 'node:assert/strict';
import { hash as digest, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
const [text, jwks, kept] = process.argv.slice(2).map((file) => readFileSync(file, 'utf8').trimEnd());
const sha256 = (text, encoding) => digest('sha256', Buffer.from(text, encoding));
function jcs(value) {
  if (Array.isArray(value)) return `[${value.map(jcs).join()}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const member = (name) => `${JSON.stringify(name)}:${jcs(value[name])}`;
  return `{${Object.keys(value).sort().map(member).join()}}`;
}
const rootOf = (leaves, left = 2 ** Math.floor(Math.log2(leaves.length - 1))) =>
  leaves.length < 2 ? leaves[0] : sha256(`01${rootOf(leaves.slice(0, left))}${rootOf(leaves.slice(left))}`, 'hex');
function open(jws) {
  const [header, payload, signature] = jws.split('.').map((part) => Buffer.from(part, 'base64url'));
  const { kid, typ } = JSON.parse(header);
  const jwk = JSON.parse(jwks).keys.find((key) => key.kid === kid && key.purpose === 'audit' && key.alg === 'ES256');
  const key = { key: jwk, format: 'jwk', dsaEncoding: 'ieee-p1363' };
  const isSigned = verify('sha256', Buffer.from(jws.slice(0, jws.lastIndexOf('.'))), key, signature);
  assert(isSigned && typ === 'audit-checkpoint+jwt', 'a checkpoint is not authentic');
  return JSON.parse(payload);
}
const leaves = [];
let [hash, before, end] = [undefined, null, undefined];
for (const line of text.split('\n')) {
  const { checkpoint, hash: stated, ...event } = JSON.parse(line);
  if ((end = checkpoint)) {
    const { sequence, hash: head, rootHash, previousCheckpointHash } = open(checkpoint);
    assert.deepEqual([sequence, head, rootHash, previousCheckpointHash], [leaves.length, hash, rootOf(leaves), before]);
    before = sha256(checkpoint);
    continue;
  }
  assert.deepEqual([event.sequence, event.previousHash], [leaves.length + 1, hash ?? sha256(event.organizationId)]);
  assert.deepEqual([stated, line], [(hash = sha256(jcs(event))), jcs(JSON.parse(line))]);
  leaves.push(sha256(`00${hash}`, 'hex'));
}
assert(end, 'the export ends early');
if (kept) assert.equal(open(kept).rootHash, rootOf(leaves.slice(0, open(kept).sequence)), 'not the log that was kept');
console.log(`${leaves.length} events verify`);
