import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Fuzzer, labelOf } from './fuzz.js';

/**
 * Sends generated requests to every operation of the API document of a running service.
 *
 * @param requests how many each operation gets; FUZZ_REQUESTS names another number
 */
export function fuzzEveryOperation(requests: number): void {
  const count = Number(process.env['FUZZ_REQUESTS'] ?? requests);

  describe('every operation of the API document', () => {
    let fuzzer: Fuzzer;

    beforeAll(async () => {
      fuzzer = await Fuzzer.start();
    }, 60_000);
    afterAll(() => fuzzer.close());

    it(
      'answers whatever it is sent as documented, and leaks nothing',
      async () => {
        process.stderr.write(`fuzzing: FC_SEED=${fuzzer.seed}, ${count} requests to each operation\n`);
        const faults: string[] = [];
        for (const operation of fuzzer.document.operations) faults.push(...(await fuzzer.fuzz(operation, count)));
        expect(faults).toEqual([]);
      },
      60_000 + 2000 * count,
    );

    it('was reached in every operation that can succeed', () => {
      const never = fuzzer.document.operations
        .filter(({ success }) => success !== undefined)
        .map((operation) => [labelOf(operation), fuzzer.tallies.get(labelOf(operation)) ?? {}] as const)
        .filter(([, tally]) => !Object.keys(tally).some((status) => status.startsWith('2')));
      expect(never).toEqual([]);
    });

    it('has left both chains whole', async () => {
      expect(await fuzzer.world.verdicts()).toEqual([true, true]);
    });
  });
}
