// Verifies an export of the audit log: node independent-verifier.mjs FILE JWKS_FILE
// Written from docs/audit-evidence.md alone; shares no code with the product.
import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const jcs = (value) =>
  Array.isArray(value)
    ? `[${value.map(jcs).join(',')}]`
    : value !== null && typeof value === 'object'
      ? `{${Object.keys(value)
          .sort()
          .map((name) => `${JSON.stringify(name)}:${jcs(value[name])}`)
          .join(',')}}`
      : JSON.stringify(value);
const decode = (part) => JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
const rootOf = (leaves) => {
  if (leaves.length === 1) return leaves[0];
  let left = 1;
  while (left * 2 < leaves.length) left *= 2;
  return sha256(Buffer.of(1), rootOf(leaves.slice(0, left)), rootOf(leaves.slice(left)));
};
const fail = (reason, line) => {
  console.log(`line ${line}: ${reason}`);
  process.exit(1);
};

const [file, jwksFile] = process.argv.slice(2);
const { keys } = JSON.parse(readFileSync(jwksFile, 'utf8'));
const lines = readFileSync(file, 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line));
const leaves = [];
let hash;
let previousCheckpointHash = null;
for (const [index, line] of lines.entries()) {
  if (line.checkpoint === undefined) {
    const { hash: stated, ...event } = line;
    hash ??= sha256(event.organizationId).toString('hex');
    if (event.sequence !== leaves.length + 1 || event.previousHash !== hash) fail('not the next event', index + 1);
    hash = sha256(jcs(event)).toString('hex');
    if (hash !== stated) fail('the hash is wrong', index + 1);
    leaves.push(sha256(Buffer.of(0), Buffer.from(hash, 'hex')));
  } else {
    const [header, payload, signature] = line.checkpoint.split('.');
    const { kid, alg, typ } = decode(header);
    const jwk = keys.find((key) => key.kid === kid && key.purpose === 'audit' && key.alg === alg && alg === 'ES256');
    const key = jwk && { key: createPublicKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' };
    const signed =
      key && verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'));
    if (!signed || typ !== 'audit-checkpoint+jwt') fail('the checkpoint is not authentic', index + 1);
    const stated = decode(payload);
    if (stated.sequence !== leaves.length || stated.hash !== hash)
      fail('the checkpoint states another chain', index + 1);
    if (stated.rootHash !== rootOf(leaves).toString('hex')) fail('the checkpoint states another tree', index + 1);
    if (stated.previousCheckpointHash !== previousCheckpointHash) fail('a checkpoint is missing', index + 1);
    previousCheckpointHash = sha256(line.checkpoint).toString('hex');
  }
}
if (lines.at(-1)?.checkpoint === undefined) fail('the export ends early', lines.length);
console.log(`${leaves.length} events verify`);
