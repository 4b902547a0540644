import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Operation } from './api-document.js';
import { Fuzzer, labelOf } from './fuzz.js';

/**
 * Sends generated requests to every operation of the API document of a running service.
 *
 * @param requests how many each operation gets; FUZZ_REQUESTS names another number, FUZZ_ONLY a part of the operations'
 *   names, such as `POST /api/v1/agents`
 */
export function fuzzEveryOperation(requests: number): void {
  const count = Number(process.env['FUZZ_REQUESTS'] ?? requests);
  const only = process.env['FUZZ_ONLY'] ?? '';

  describe('every operation of the API document', () => {
    let fuzzer: Fuzzer;
    let operations: readonly Operation[];

    beforeAll(async () => {
      fuzzer = await Fuzzer.start();
      operations = fuzzer.document.operations.filter((operation) => labelOf(operation).includes(only));
    }, 60_000);
    afterAll(() => fuzzer.close());

    it(
      'answers whatever it is sent as documented, and leaks nothing',
      async () => {
        process.stderr.write(`fuzzing: FC_SEED=${fuzzer.seed}, ${count} requests to each operation\n`);
        const faults: string[] = [];
        for (const operation of operations) faults.push(...(await fuzzer.fuzz(operation, count)));
        process.stderr.write(`fuzzed: ${operations.length} operations, ${fuzzer.summary()}\n`);
        expect(faults).toEqual([]);
      },
      60_000 + 2000 * count,
    );

    it('was reached in every operation that can succeed', () => {
      const never = operations
        .filter((operation) => operation.success !== undefined && !fuzzer.isReached(operation))
        .map((operation) => [labelOf(operation), fuzzer.tallies.get(labelOf(operation)) ?? {}]);
      expect(never).toEqual([]);
    });

    it('has left both chains whole', async () => {
      expect(await fuzzer.world.verdicts()).toEqual([true, true]);
    });
  });
}
