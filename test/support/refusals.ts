import { RefusalsService } from '../../src/audit/refusals.service.js';
import type { TestApp } from './test-app.js';

/** Lets a minute pass on every replica, after which all refusals so far are events of the log. */
export async function tellRefusals(...replicas: readonly TestApp[]): Promise<void> {
  for (const { app } of replicas) await app.get(RefusalsService).round();
  for (const clock of new Set(replicas.map((replica) => replica.clock))) clock.advance(61);
  for (const { app } of replicas) await app.get(RefusalsService).round();
}
