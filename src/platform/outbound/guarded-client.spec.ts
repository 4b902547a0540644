import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { GuardedClient, type GuardOptions, type OutboundRequest } from './guarded-client.js';

/** Addresses that no call may reach. */
const REFUSED_ADDRESSES = [
  ...['0.0.0.0', '0.1.2.3', '10.0.0.1', '10.255.255.255', '100.64.0.1', '100.100.100.200', '127.0.0.1', '127.8.9.10'],
  ...['168.63.129.16', '169.254.0.1', '169.254.169.254', '172.16.0.1', '172.31.255.255', '192.0.0.192', '192.0.2.1'],
  ...['192.88.99.1', '192.168.0.1', '198.18.0.1', '198.19.255.255', '198.51.100.7', '203.0.113.9', '224.0.0.1'],
  ...['239.255.255.250', '240.0.0.1', '255.255.255.255'],
  ...['::', '::1', '::127.0.0.1', '::ffff:127.0.0.1', '::ffff:8.8.8.8', '::ffff:a9fe:a9fe', '64:ff9b::7f00:1'],
  ...['64:ff9b:1::a00:1', '100::1', '2001::7f00:1', '2001:db8::1', '2002:7f00:1::', '2002:a9fe:a9fe::1', '3fff::1'],
  ...['fc00::1', 'fd00:ec2::254', 'fe80::1', 'fec0::1', 'ff02::1', '5f00::1'],
];

/** Other ways of writing them. */
const REFUSED_HOSTS = [
  ...['127.1', '127.0.1', '2130706433', '0x7f000001', '0x7f.0.0.1', '0177.0.0.1', '017700000001', '0', '0x0'],
  ...['2852039166', '0xa9fea9fe', '0251.0376.0251.0376', '169.254.43518', '3232235777', '127.0.0.1.'],
  ...['localhost', 'LOCALHOST', 'localhost.', 'metadata.localhost', '１２７.０.０.１', '127。0。0。1', '①②⑦.0.0.1'],
  ...['[::ffff:127.0.0.1]', '[0:0:0:0:0:ffff:7f00:0001]', '[0000::1]'],
];

const PUBLIC_ADDRESSES = ['1.1.1.1', '8.8.8.8', '172.15.0.1', '172.32.0.1', '100.128.0.1', '2606:4700:4700::1111'];

describe('the guarded client', () => {
  let server: Server;
  let port: number;
  let answering: RequestListener;
  let calls = 0;
  const clients: GuardedClient[] = [];

  beforeAll(async () => {
    server = createServer((request, response) => {
      calls += 1;
      answering(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
    calls = 0;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  function client(options: Partial<GuardOptions> = {}): GuardedClient {
    const made = new GuardedClient({ allowedNetworks: [], plainHttp: true, ...options });
    clients.push(made);
    return made;
  }

  function get(url: string, more: Partial<OutboundRequest> = {}): OutboundRequest {
    return { method: 'GET', url, headers: {}, timeoutMs: 2000, maxBytes: 1024, ...more };
  }

  const allowed = { allowedNetworks: ['127.0.0.0/8'] };

  it.each(REFUSED_ADDRESSES)('refuses %s, as an address and behind a name', async (address) => {
    const host = address.includes(':') ? `[${address}]` : address;
    expect(client().fault(`https://${host}/`)).not.toBeNull();
    await expect(client().call(get(`http://${host}:${port}/`))).rejects.toMatchObject({ failure: 'address_refused' });
    const named = client({ resolve: async () => [address] });
    for (const scheme of ['http', 'https']) {
      const call = named.call(get(`${scheme}://innocent.example:${port}/`));
      await expect(call).rejects.toMatchObject({ failure: 'address_refused' });
    }
    expect(calls).toBe(0);
  });

  it.each(REFUSED_HOSTS)('refuses the notation %s', async (host) => {
    const url = `http://${host}:${port}/`;
    expect(client().fault(url)).not.toBeNull();
    await expect(client().call(get(url))).rejects.toMatchObject({ failure: 'address_refused' });
    expect(calls).toBe(0);
  });

  it.each(PUBLIC_ADDRESSES)('has nothing against %s', (address) => {
    expect(client().fault(`https://${address.includes(':') ? `[${address}]` : address}/`)).toBeNull();
  });

  it.each(['ftp://example.com/', 'file:///etc/passwd', 'gopher://example.com/', 'nonsense', '', '//example.com/'])(
    'refuses %s',
    (url) => expect(client().fault(url)).toBe('must be an absolute https URL'),
  );

  it.each(['https://user@example.com/', 'https://user:secret@example.com/', 'https://:secret@example.com/'])(
    'refuses a user or password: %s',
    (url) => expect(client().fault(url)).toBe('must not hold a user or a password'),
  );

  it('refuses a name of which one address may not be called', async () => {
    const mixed = client({ resolve: async () => ['1.1.1.1', '127.0.0.1'] });
    await expect(mixed.call(get(`http://mixed.example:${port}/`))).rejects.toMatchObject({
      failure: 'address_refused',
    });
    expect(calls).toBe(0);
  });

  it('connects to the very address that it checked, whatever the name says a moment later', async () => {
    answering = (_request, response) => response.end('inside');
    const answers = [['127.0.0.1'], ['127.0.0.2'], ['10.0.0.1']];
    const asked: string[] = [];
    const rebinding = client({
      ...allowed,
      resolve: async (name) => {
        asked.push(name);
        return answers[asked.length - 1] ?? [];
      },
    });
    const answer = await rebinding.call(get(`http://rebinding.example:${port}/`, { headers: { connection: 'close' } }));
    expect(answer.body.toString()).toBe('inside');
    expect(asked).toEqual(['rebinding.example']);
    rebinding.close();
    // Nobody listens there, so the call did go to the second answer; the third is refused before any connection.
    const second = rebinding.call(get(`http://rebinding.example:${port}/`));
    await expect(second).rejects.toMatchObject({ failure: 'connection_refused' });
    const third = rebinding.call(get(`http://rebinding.example:${port}/`));
    await expect(third).rejects.toMatchObject({ failure: 'address_refused' });
  });

  it('gives a redirect back and does not follow it', async () => {
    answering = (_request, response) => response.writeHead(302, { location: 'http://169.254.169.254/' }).end();
    const answer = await client(allowed).call(get(`http://127.0.0.1:${port}/`));
    expect(answer.status).toBe(302);
    expect(calls).toBe(1);
  });

  it('reaches a network that the operator names, and no other', async () => {
    answering = (_request, response) => response.end('here');
    expect((await client(allowed).call(get(`http://127.0.0.1:${port}/`))).status).toBe(200);
    expect((await client(allowed).call(get(`http://localhost:${port}/`))).status).toBe(200);
    for (const host of ['10.0.0.1', '[::ffff:127.0.0.1]', '[::1]', '169.254.169.254']) {
      expect(client(allowed).fault(`http://${host}/`)).not.toBeNull();
    }
  });

  it('takes plain http only inside the named networks where it is not development', async () => {
    answering = (_request, response) => response.end('here');
    const strict = client({ ...allowed, plainHttp: false, resolve: async () => ['1.1.1.1'] });
    expect((await strict.call(get(`http://127.0.0.1:${port}/`))).status).toBe(200);
    expect(strict.fault('http://1.1.1.1/')).toBe('must be an https URL');
    await expect(strict.call(get('http://public.example/'))).rejects.toMatchObject({ failure: 'address_refused' });
    expect(client({ plainHttp: false }).fault('http://public.example/')).toBe('must be an https URL');
  });

  it('ends a call that takes too long, before the answer and within it', async () => {
    for (const silence of [
      () => undefined,
      (_: unknown, response: { write(chunk: string): unknown }) => response.write('x'),
    ]) {
      answering = silence;
      const call = client(allowed).call(get(`http://127.0.0.1:${port}/`, { timeoutMs: 200 }));
      await expect(call).rejects.toMatchObject({ failure: 'timeout' });
    }
    server.closeAllConnections();
  });

  it('reads no more than it is told to, of an answer without end too', async () => {
    answering = (_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write('x'.repeat(65_536)));
      };
      response.on('drain', more);
      more();
    };
    const answer = await client(allowed).call(get(`http://127.0.0.1:${port}/`, { maxBytes: 1000 }));
    expect([answer.status, answer.body.length, answer.truncated]).toEqual([200, 1000, true]);
  });

  it('calls again where a kept connection was closed by the other side', async () => {
    answering = (_request, response) => response.end('ok');
    const one = client(allowed);
    expect((await one.call(get(`http://127.0.0.1:${port}/`))).status).toBe(200);
    // The connection is kept once the answer's end was handled.
    await new Promise((resolve) => setImmediate(resolve));
    answering = (request, response) => (calls === 2 ? request.socket.destroy() : response.end('ok'));
    expect((await one.call(get(`http://127.0.0.1:${port}/`))).status).toBe(200);
    expect(calls).toBe(3);
  });

  it('has one time limit for both of its tries', async () => {
    answering = (_request, response) => response.end('ok');
    const one = client(allowed);
    await one.call(get(`http://127.0.0.1:${port}/`));
    await new Promise((resolve) => setImmediate(resolve));
    // The kept connection is closed late, and the new one hangs.
    answering = (request) => void (calls === 2 && setTimeout(() => request.socket.destroy(), 600));
    const began = performance.now();
    await expect(one.call(get(`http://127.0.0.1:${port}/`, { timeoutMs: 1000 }))).rejects.toMatchObject({
      failure: 'timeout',
    });
    const took = performance.now() - began;
    expect(calls).toBe(3);
    expect(took).toBeGreaterThan(990);
    expect(took).toBeLessThan(1550);
    server.closeAllConnections();
  });

  it.each([
    ['changes the protocol', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n', false],
    ['is no HTTP', 'SSH-2.0-OpenSSH_9.6\r\n\r\n', false],
    ['ends after its hints', 'HTTP/1.1 103 Early Hints\r\n\r\n', true],
    ['ends within its body', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc', true],
    ['has chunks that are none', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', false],
  ])('fails where the answer %s, and is not kept waiting', async (_what, answer, ends) => {
    answering = (request) => {
      request.socket.write(answer);
      if (ends) request.socket.end();
    };
    const call = client(allowed).call(get(`http://127.0.0.1:${port}/`));
    await expect(call).rejects.toMatchObject({ failure: 'connection_failed' });
    server.closeAllConnections();
  });

  it.each([100, 103])('ends a call in time that is answered %d again and again', async (status) => {
    answering = (request) => {
      const again = setInterval(() => request.socket.write(`HTTP/1.1 ${status} Wait\r\n\r\n`), 20);
      request.socket.on('close', () => clearInterval(again));
    };
    const call = client(allowed).call(get(`http://127.0.0.1:${port}/`, { timeoutMs: 300 }));
    await expect(call).rejects.toMatchObject({ failure: 'timeout' });
    server.closeAllConnections();
  });

  it('gives up when it is told to', async () => {
    answering = () => undefined;
    const signal = AbortSignal.abort();
    const call = client(allowed).call(get(`http://127.0.0.1:${port}/`, { signal }));
    await expect(call).rejects.toMatchObject({ failure: 'aborted' });
    server.closeAllConnections();
  });

  it('reads JSON documents, and refuses what is none, too large or not 200', async () => {
    const limits = { timeoutMs: 2000, maxBytes: 100 };
    const url = `http://127.0.0.1:${port}/`;
    for (const [cacheControl, maxAgeSeconds] of [
      [undefined, null],
      ['public, max-age=300', 300],
      ['Max-Age="60"', 60],
      ['max-age=60, no-cache', 0],
      ['no-store', 0],
      ['max-age=-1', null],
      ['max-age=99999999999', null],
    ] as const) {
      const headers = cacheControl === undefined ? {} : { 'cache-control': cacheControl };
      answering = (_request, response) => response.writeHead(200, headers).end('{"keys":[]}');
      expect(await client(allowed).getJson(url, limits)).toEqual({ json: { keys: [] }, maxAgeSeconds });
    }
    const refused: RequestListener[] = [
      (_request, response) => response.end('<html>'),
      (_request, response) => response.end(JSON.stringify('x'.repeat(200))),
      (_request, response) => response.writeHead(404).end('{}'),
    ];
    for (const one of refused) {
      answering = one;
      await expect(client(allowed).getJson(url, limits)).rejects.toMatchObject({ failure: 'unexpected_answer' });
    }
  });
});
