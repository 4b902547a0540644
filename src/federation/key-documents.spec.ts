import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import dns from 'node:dns/promises';
import { loadConfig } from '../platform/config/load-config.js';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KeyDocuments } from './key-documents.js';

/** What the DNS says at each question, one list of addresses after the other. */
let answers: string[][] = [];

describe('the documents of a partner behind a name', () => {
  let server: Server;
  let port: number;
  let calls = 0;
  let documents: KeyDocuments;

  beforeAll(async () => {
    jest.spyOn(dns.Resolver.prototype, 'resolve4').mockImplementation(() => {
      return Promise.resolve(answers.shift() ?? []);
    });
    jest.spyOn(dns.Resolver.prototype, 'resolve6').mockImplementation(() => Promise.resolve([]));
    server = createServer((_request, response) => {
      calls += 1;
      response.setHeader('connection', 'close');
      const origin = `http://rebinding.example:${port}`;
      response.end(JSON.stringify({ issuer: origin, jwks_uri: `${origin}/keys`, keys: [] }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });
  beforeEach(() => {
    calls = 0;
    documents = new KeyDocuments(loadConfig({ FEDERATION_ALLOWED_NETWORKS: '127.0.0.1' }));
  });
  afterAll(async () => {
    jest.restoreAllMocks();
    await new Promise((resolve) => server.close(resolve));
  });

  const fetch = (jwksUri: string | null = null) =>
    documents.fetch({ issuer: `http://rebinding.example:${port}`, jwksUri });

  it('are read where the name leads into a network that the operator named', async () => {
    answers = [['127.0.0.1'], ['127.0.0.1']];
    expect(await fetch()).toEqual({ keys: [], maxAgeSeconds: null });
    expect(calls).toBe(2);
  });

  it.each([
    ['at once', [['10.0.0.1']], 0],
    ['beside an allowed one', [['127.0.0.1', '169.254.169.254']], 0],
    ['between the discovery document and the keys', [['127.0.0.1'], ['169.254.169.254']], 1],
    ['to a public one, by plain http', [['192.88.98.1']], 0],
    ['to none', [[]], 0],
  ])('are not read where the name turns to another address %s', async (_when, given, reached) => {
    answers = given;
    await expect(fetch()).rejects.toMatchObject({ failure: 'address_refused' });
    expect(calls).toBe(reached);
  });

  it('are not read by plain http from a name outside production either, nor from another scheme', async () => {
    const strict = new KeyDocuments(loadConfig({}));
    for (const url of ['http://keys.example/', 'ftp://keys.example/', 'data:application/json,{}']) {
      expect(strict.fault(url)).not.toBeNull();
      await expect(strict.fetch({ issuer: 'https://x.example', jwksUri: url })).rejects.toMatchObject({
        failure: 'address_refused',
      });
    }
    expect(calls).toBe(0);
  });
});
