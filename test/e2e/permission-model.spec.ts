import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { cleanUpProcesses, environmentOf, startService, type ServiceProcess } from '../support/service-process.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

const ROOT = join(import.meta.dirname, '../..');
/** The flag has lost its prefix in Node.js 22.13. */
const FLAG = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission';
/** From Node.js 25 on the network is restricted as well. */
const NETWORK = process.allowedNodeEnvironmentFlags.has('--allow-net') ? ' --allow-net' : '';

describe('the service under the permission model of Node.js', () => {
  let database: TestDatabase;
  let service: ServiceProcess;

  beforeAll(async () => {
    database = await createTestDatabase();
    const permissions = `${FLAG} --allow-fs-read=${join(ROOT, '/')}${NETWORK}`;
    service = await startService({ ...environmentOf(database), NODE_OPTIONS: permissions });
  });
  afterAll(async () => {
    await cleanUpProcesses();
    await database.drop();
  });

  it('needs to read its own files and nothing else: no writing, no process, no thread, no addon', async () => {
    await until('the operator is printed', () => service.output().includes('CLIENT_SECRET='));
    const operator = await service.api.token(service.printedOperator());
    const { agentId } = await service.api.agent(operator);
    expect((await service.api.call('GET', `/agents/${agentId}`, operator)).status).toBe(200);
    for (const path of ['/health/ready', '/metrics', '/api/docs', '/api/docs/swagger-ui.css', '/api/openapi.json']) {
      expect([path, (await service.api.send('GET', path)).status]).toEqual([path, 200]);
    }
    expect(service.output()).not.toContain('ERR_ACCESS_DENIED');
  });

  it('ends as it does without', async () => {
    expect(await service.stop()).toMatchObject({ code: 0 });
  });
});
