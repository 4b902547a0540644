import { describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import type { AuditService } from '../audit/audit.service.js';
import type { CheckpointSigner } from './checkpoint-signer.js';
import type { CheckpointsService } from './checkpoints.service.js';
import type { EvidenceRepository } from './evidence.repository.js';
import { ExportService } from './export.service.js';

const ORGANIZATION = '11111111-1111-4111-8111-111111111111';
const EVENTS = 1_000_000;
const HASH = '0'.repeat(64);

/** An export over a million events, and how many of them were read so far. */
function exportOfAMillion(): { service: ExportService; read: () => number } {
  let read = 0;
  const payload = {
    organizationId: ORGANIZATION,
    sequence: EVENTS,
    hash: HASH,
    rootHash: HASH,
    issuedAt: '2026-11-22T00:00:00.000Z',
    previousCheckpointHash: null,
  };
  const checkpoint = `e30.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.x`;
  const audit = {
    readForward: (_: string, sequence: number, limit: number) => {
      read += limit;
      return Promise.resolve(
        Array.from({ length: limit }, (_event, n) => ({ sequence: sequence + n, text: 'x'.repeat(500) })),
      );
    },
  } as unknown as AuditService;
  const repository = {
    tree: () => Promise.resolve(null),
    checkpointsFrom: () => Promise.resolve([]),
  } as unknown as EvidenceRepository;
  const checkpoints = { currentStored: () => Promise.resolve(checkpoint) } as unknown as CheckpointsService;
  const signer = { jwks: () => Promise.resolve({ keys: [] }) } as unknown as CheckpointSigner;
  return { service: new ExportService(repository, audit, checkpoints, signer), read: () => read };
}

describe('an export', () => {
  it('reads no more than its client takes', async () => {
    const { service, read } = exportOfAMillion();
    const stream = await service.export(ORGANIZATION, 1);
    await once(stream, 'readable');
    for (let turns = 0; turns < 100; turns += 1) await turn();
    expect(read()).toBeLessThanOrEqual(1000);
    const before = read();
    stream.read();
    for (let turns = 0; turns < 100; turns += 1) await turn();
    expect(read()).toBeGreaterThan(before);
    expect(read()).toBeLessThanOrEqual(2000);
    stream.destroy();
  });

  it('takes part in a limit for each organization, until its client is gone', async () => {
    const { service } = exportOfAMillion();
    const open = await Promise.all(Array.from({ length: 4 }, () => service.export(ORGANIZATION, 1)));
    await expect(service.export(ORGANIZATION, 1)).rejects.toMatchObject({ code: 'rate_limited', status: 429 });
    const [gone] = open;
    gone?.destroy();
    await once(gone as NonNullable<typeof gone>, 'close');
    const next = await service.export(ORGANIZATION, 1);
    for (const stream of [...open, next]) stream.destroy();
  });
});
