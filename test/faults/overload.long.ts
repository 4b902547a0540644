import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ClientCredentials } from '../support/api.js';
import { rawIntrospection, rawTokenRequest } from '../support/raw-connection.js';
import { cleanUpProcesses, environmentOf, startService, type ServiceProcess } from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { until } from './conditions.js';
import { loadWith } from './overload-load.js';

const CONNECTIONS = 2000;

/** As overload.spec.ts, with the times that are promised: this test has the machine to itself. */
describe(`${CONNECTIONS} connections that ask at once, on a machine that does nothing else`, () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let operator: ClientCredentials;

  beforeAll(async () => {
    database = await createTestDatabase();
    service = await startService(environmentOf(database));
    await until('the secret', () => service.output().includes('CLIENT_SECRET='));
    operator = service.printedOperator();
    await loadWith(service, rawTokenRequest(operator), 32, 3);
  });
  afterAll(async () => {
    await cleanUpProcesses();
    await database.drop();
  });

  it.each(['tokens', 'introspections'])('%s: within half a second, or refused within one', async (kind) => {
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
