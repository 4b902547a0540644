import { afterAll, describe, it } from '@jest/globals';
import { cleanUpProcesses } from '../support/service-process.js';
import { killInTheMiddle } from './kill-rounds.js';

describe('kill -9 in the middle of 16 parallel issuers', () => {
  afterAll(cleanUpProcesses);

  it('loses no token that was answered, nothing of the chain, and no revocation', () => killInTheMiddle(2), 60_000);
});
