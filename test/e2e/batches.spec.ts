import { afterAll, beforeAll, expect, it, jest } from '@jest/globals';
import { CredentialsRepository } from '../../src/credentials/credentials.repository.js';
import { Backlog } from '../../src/platform/database/backlog.js';
import { startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

let service: TestApp;

beforeAll(async () => {
  service = await startTestApp();
});

afterAll(() => service.close());

it('tells the batches of the token path how many requests for tokens are under way', async () => {
  const { app, api, operator } = service;
  const backlog = app.get(Backlog);
  for (let jobs = 0; jobs < 1000; jobs += 1) backlog.begin();
  const isWorthwhile = () => backlog.gathering().begin()(0);
  expect(isWorthwhile()).toBe(false);
  const repository = app.get(CredentialsRepository);
  const readClients = repository.readClients.bind(repository);
  let goOn = (): void => undefined;
  const held = new Promise<void>((resolve) => (goOn = resolve));
  const slow = jest.spyOn(repository, 'readClients').mockImplementationOnce(async (...asked) => {
    await held;
    return readClients(...asked);
  });
  try {
    const asked = api.requestToken(operator);
    await until('the request is under way', isWorthwhile);
    goOn();
    expect((await asked).status).toBe(200);
    expect(isWorthwhile()).toBe(false);
  } finally {
    goOn();
    slow.mockRestore();
    for (let jobs = 0; jobs < 1000; jobs += 1) backlog.end();
  }
});
