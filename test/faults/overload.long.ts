import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { rawIntrospection, rawTokenRequest } from '../support/raw-connection.js';
import { loadWith, startWarm, type LoadedService } from './overload-load.js';

const CONNECTIONS = 2000;

/** As overload.spec.ts, with the times that are promised: this test has the machine to itself. */
describe(`${CONNECTIONS} connections that ask at once, on a machine that does nothing else`, () => {
  let loaded: LoadedService;

  beforeAll(async () => {
    loaded = await startWarm();
  });
  afterAll(() => loaded.close());

  it.each(['tokens', 'introspections'])('%s: within half a second, or refused within one', async (kind) => {
    const { service, operator } = loaded;
    const token = await service.api.token(operator);
    const request = kind === 'tokens' ? rawTokenRequest(operator) : rawIntrospection(token, token);
    const report = await loadWith(service, request, CONNECTIONS, 8);
    process.stderr.write(`overload, ${kind}: ${JSON.stringify(report)}\n`);
    expect(report).toMatchObject({ others: [], refusedWithoutRetryAfter: 0 });
    expect(report.refused).toBeGreaterThan(1000);
    expect(report.acceptedP99).toBeLessThan(500);
    expect(report.refusedMax).toBeLessThan(1000);
    expect(report.heapMostMb).toBeLessThan(400);
  });
});
