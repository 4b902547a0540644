import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { addOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

let first: TestApp;
let second: TestApp;

beforeAll(async () => {
  first = await startTestApp();
  second = await startTestApp({ database: first.database, env: { ISSUER: first.issuer } });
});
afterAll(async () => {
  await second.close();
  await first.close();
});

it('gives exactly as many webhooks as the tier allows to requests that come together over two replicas', async () => {
  const operator = await first.api.token(first.operator);
  const organizationId = await addOrganization(first, operator, { tier: 'free' });
  const agent = await first.api.agent(operator, { organizationId, scopes: ['webhooks:read', 'webhooks:write'] });
  const token = await first.api.token(agent);
  const answers = await Promise.all(
    Array.from({ length: 16 }, (_, index) =>
      (index % 2 === 0 ? first : second).api.call('POST', '/webhooks', token, {
        url: `https://receiver-${index}.example/`,
        events: ['agent.*'],
      }),
    ),
  );
  const refused = answers.filter(({ status }) => status !== 201);
  expect(answers).toHaveLength(16);
  expect(refused).toHaveLength(11);
  for (const { status, body } of refused) {
    expect([status, body]).toMatchObject([403, { code: 'limit_reached', limit: 5, used: 5 }]);
  }
  const { body } = await second.api.call('GET', '/webhooks', token);
  expect(body['data']).toHaveLength(5);
});
