// Verifies an export of the audit log: node independent-verifier.mjs FILE JWKS_FILE
// Written from docs/audit-evidence.md alone; shares no code with the product.
import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const sha256 = (...parts) =>
  createHash('sha256')
    .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
    .digest();
function jcs(value) {
  if (Array.isArray(value)) return `[${value.map(jcs).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${jcs(value[name])}`).join(',')}}`;
}
function rootOf(leaves) {
  const left = 2 ** Math.floor(Math.log2(leaves.length - 1));
  return leaves.length === 1 ? leaves[0] : sha256([1], rootOf(leaves.slice(0, left)), rootOf(leaves.slice(left)));
}
function isSigned(header, payload, signature) {
  const { kid, typ } = JSON.parse(Buffer.from(header, 'base64url'));
  const jwk = keys.find((key) => key.kid === kid && key.purpose === 'audit' && key.alg === 'ES256');
  if (jwk === undefined || typ !== 'audit-checkpoint+jwt') return false;
  const key = { key: createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' };
  return verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'));
}
function check(right, what) {
  if (!right) throw new Error(what);
}

const [text, jwks] = process.argv.slice(2).map((file) => readFileSync(file, 'utf8'));
const { keys } = JSON.parse(jwks);
const lines = text.trimEnd().split('\n');
const leaves = [];
let [hash, previousCheckpointHash] = [undefined, null];
for (const line of lines) {
  const { checkpoint, hash: stated, ...event } = JSON.parse(line);
  if (checkpoint === undefined) {
    hash ??= sha256(event.organizationId).toString('hex');
    check(event.sequence === leaves.length + 1 && event.previousHash === hash, 'not the next event');
    hash = sha256(jcs(event)).toString('hex');
    check(hash === stated, 'the hash of an event is wrong');
    leaves.push(sha256([0], Buffer.from(hash, 'hex')));
  } else {
    check(isSigned(...checkpoint.split('.')), 'a checkpoint is not authentic');
    const payload = JSON.parse(Buffer.from(checkpoint.split('.')[1], 'base64url'));
    check(payload.sequence === leaves.length && payload.hash === hash, 'a checkpoint states another chain');
    check(payload.rootHash === rootOf(leaves).toString('hex'), 'a checkpoint states another tree');
    check(payload.previousCheckpointHash === previousCheckpointHash, 'a checkpoint is missing');
    previousCheckpointHash = sha256(checkpoint).toString('hex');
  }
}
check(lines.at(-1).startsWith('{"checkpoint"'), 'the export ends early');
console.log(`${leaves.length} events verify`);
