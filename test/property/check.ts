import { expect } from '@jest/globals';
import { randomInt } from 'node:crypto';
import fc from 'fast-check';

/**
 * Checks a property on `runs` inputs. The seed is printed, so that the very same run can be had again with FC_SEED.
 *
 * @throws with the smallest input that fails
 */
export async function check<Input>(property: fc.IAsyncProperty<Input>, runs: number): Promise<void> {
  const seed = Number(process.env['FC_SEED'] ?? randomInt(2 ** 31));
  process.stderr.write(`${testName()}: FC_SEED=${seed}, ${runs} runs\n`);
  await fc.assert(property, { seed, numRuns: runs });
}

function testName(): string {
  return expect.getState().currentTestName ?? 'property';
}
