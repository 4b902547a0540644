import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { AppModule } from '../../src/app.module.js';
import { Readiness } from '../../src/platform/http/readiness.js';
import { loggingModule } from '../../src/platform/http/request-logging.js';
import { basic, type Answer, type TestAgent } from '../support/api.js';
import { startTestApp, type TestApp, type TestAppOptions } from '../support/test-app.js';
// By its path: the package does not export it.
import { __resetOutOfContextForTests as forgetLogger } from '../../node_modules/nestjs-pino/dist/esm/PinoLogger.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

type Line = Record<string, unknown>;

/** Starts the application with its log in `lines` instead of the standard output. */
async function startLoggedApp(
  lines: string[],
  level: 'trace' | 'info',
  options: TestAppOptions = {},
): Promise<TestApp> {
  const build = AppModule.forRoot.bind(AppModule);
  const wired = jest.spyOn(AppModule, 'forRoot').mockImplementation((parts) => {
    const logging = loggingModule(level, { write: (line: string) => void lines.push(line) });
    const { imports = [], ...rest } = build(parts);
    return {
      ...rest,
      imports: imports.map((each) => ('module' in each && each.module === logging.module ? logging : each)),
    };
  });
  // One logger serves a whole process: that of an earlier application goes first.
  Logger.overrideLogger(false);
  forgetLogger();
  try {
    return await startTestApp({ ...options, env: { ...options.env, LOG_LEVEL: level } });
  } finally {
    wired.mockRestore();
  }
}

async function until<T>(look: () => Promise<T> | T, holds: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await look();
    if (holds(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Stands between the application and PostgreSQL, and can cut the line or hold it still. */
class DatabaseLine {
  private readonly sockets = new Set<Socket>();
  private still = false;
  private constructor(private readonly server: Server) {}

  static async to(database: TestDatabase): Promise<{ line: DatabaseLine; database: TestDatabase }> {
    const target = new URL(database.servingUrl);
    const server = createServer();
    const line = new DatabaseLine(server);
    server.on('connection', (client) => {
      const upstream = connect(Number(target.port), target.hostname);
      for (const [from, to] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        line.sockets.add(from);
        from.on('data', (data) => {
          if (!line.still) to.write(data);
        });
        from.on('error', () => undefined);
        from.on('close', () => to.destroy());
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = new URL(database.servingUrl);
    url.search = '';
    url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { line, database: { ...database, servingUrl: url.href } };
  }

  hold(): void {
    this.still = true;
  }

  async cut(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }
}

describe('health', () => {
  let service: TestApp;
  beforeAll(async () => {
    service = await startTestApp();
  });
  afterAll(() => service.close());

  it('is live and ready while all is well', async () => {
    const live = await service.api.send('GET', '/health/live');
    expect([live.status, live.body]).toEqual([200, { status: 'ok' }]);
    const ready = await service.api.send('GET', '/health/ready');
    expect([ready.status, ready.body]).toEqual([200, { status: 'ok', checks: { database: 'up' } }]);
    expect(ready.headers.get('cache-control')).toBe('no-store');
  });

  it.each(['cut', 'hold'] as const)('is live but not ready where the line to the database is %s', async (fate) => {
    const real = await createTestDatabase();
    const { line, database } = await DatabaseLine.to(real);
    const own = await startTestApp({ database });
    try {
      expect((await own.api.send('GET', '/health/ready')).status).toBe(200);
      await line[fate]();
      const ready = await own.api.send('GET', '/health/ready');
      expect(ready.status).toBe(503);
      expect(ready.headers.get('content-type')).toBe('application/problem+json');
      expect(Number(ready.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(ready.body).toMatchObject({ code: 'unavailable', checks: { database: 'down' } });
      expect(ready.text).not.toMatch(/127\.0\.0\.1|ECONN|postgres/);
      expect((await own.api.send('GET', '/health/live')).status).toBe(200);
      expect((await own.api.send('GET', '/metrics')).status).toBe(200);
      if (fate === 'cut') {
        const refused = await own.api.requestToken(own.operator);
        expect([refused.status, refused.body['error']]).toEqual([503, 'temporarily_unavailable']);
        expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      }
    } finally {
      await line.cut().catch(() => undefined);
      await own.close();
      await real.drop();
    }
  });

  it('is not ready while it drains', async () => {
    const own = await startTestApp();
    try {
      own.app.get(Readiness).drain();
      const { status, body } = await own.api.send('GET', '/health/ready');
      expect([status, body['code'], body['checks']]).toEqual([503, 'unavailable', { draining: true }]);
      expect((await own.api.send('GET', '/health/live')).status).toBe(200);
    } finally {
      await own.close();
    }
  });
});

describe('metrics', () => {
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator, { scopes: ['agents:read'] });
  });
  afterAll(() => service.close());

  /** Every sample by its name and labels. */
  async function samples(): Promise<Map<string, number>> {
    const { text } = await service.api.send('GET', '/metrics');
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(
      lines.map((line) => {
        const space = line.lastIndexOf(' ');
        return [line.slice(0, space), Number(line.slice(space + 1))];
      }),
    );
  }
  /** How far each sample has moved once `work` is done. */
  async function moved(work: () => Promise<unknown>): Promise<(sample: string) => number> {
    const before = await samples();
    await work();
    const after = await samples();
    return (sample) => (after.get(sample) ?? 0) - (before.get(sample) ?? 0);
  }

  it('are in the text format of Prometheus, with help and type', async () => {
    const { status, headers, text } = await service.api.send('GET', '/metrics');
    expect([status, headers.get('content-type')]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
    const names = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map((match) => match[1] ?? '');
    expect(names.length).toBeGreaterThan(15);
    for (const name of names) {
      expect(name).toMatch(/^agentidp_[a-z0-9_]+$/);
      expect(text).toContain(`# HELP ${name} `);
    }
  });

  it('count issued tokens, and only those', async () => {
    const by = await moved(async () => {
      await service.api.token(agent);
      await service.api.token(agent);
      await service.api.requestToken(agent, { scope: 'admin:orgs' });
    });
    expect(by('agentidp_tokens_issued_total')).toBe(2);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['invalid_request', () => service.api.form('/api/v1/token', '')],
    ['unsupported_grant_type', () => service.api.requestToken(agent, { grant_type: 'password' })],
    ['invalid_client', () => service.api.requestToken({ ...agent, clientSecret: 'x' })],
    ['invalid_scope', () => service.api.requestToken(agent, { scope: 'admin:orgs' })],
    ['invalid_target', () => service.api.requestToken(agent, { resource: 'urn:nobody' })],
    [
      'agent_suspended',
      async () => {
        await service.api.call('POST', `/agents/${agent.agentId}/suspend`, operator);
        await service.api.requestToken(agent);
        await service.api.call('POST', `/agents/${agent.agentId}/reactivate`, operator);
      },
    ],
    [
      'organization_suspended',
      async () => {
        await service.database.query("UPDATE organizations SET status = 'suspended'");
        await service.api.requestToken(agent);
        await service.database.query("UPDATE organizations SET status = 'active'");
      },
    ],
    [
      'quota_reached',
      async () => {
        await service.database.query('UPDATE organizations SET limit_tokens_per_month = 0');
        await service.api.requestToken(agent);
        await service.database.query('UPDATE organizations SET limit_tokens_per_month = NULL');
      },
    ],
  ])('count refusals for %s, once each', async (reason, work) => {
    const by = await moved(work);
    expect(by(`agentidp_token_refusals_total{reason="${reason}"}`)).toBe(1);
    const all = [...(await samples()).keys()].filter((name) => name.startsWith('agentidp_token_refusals_total'));
    expect(all.reduce((sum, name) => sum + by(name), 0)).toBe(1);
  });

  it('count introspections by result, and revocations', async () => {
    const token = await service.api.token(agent);
    const by = await moved(async () => {
      await service.api.introspect(operator, token);
      await service.api.revoke(operator, token);
      await service.api.revoke(operator, token);
      await service.api.introspect(operator, token);
      await service.api.introspect(operator, 'garbage');
    });
    expect(by('agentidp_introspections_total{result="active"}')).toBe(1);
    expect(by('agentidp_introspections_total{result="inactive"}')).toBe(2);
    expect(by('agentidp_revocations_total')).toBe(1);
  });

  it('count failed client authentications by method', async () => {
    const wrong = { ...agent, clientSecret: 'wrong' };
    const by = await moved(async () => {
      await service.api.requestToken(wrong);
      await service.api.form('/api/v1/token', { grant_type: 'client_credentials' }, basic(wrong));
      await service.api.form('/api/v1/token', { grant_type: 'client_credentials' }, basic(wrong));
      await service.api.form('/api/v1/token', { grant_type: 'client_credentials' });
    });
    expect(by('agentidp_client_authentication_failures_total{method="client_secret_post"}')).toBe(1);
    expect(by('agentidp_client_authentication_failures_total{method="client_secret_basic"}')).toBe(2);
    expect(by('agentidp_client_authentication_failures_total{method="none"}')).toBe(1);
  });

  it('tell the size and the duration of flushes, and the depth of each queue', async () => {
    // Not refused before: what is refused again within a minute is only counted.
    const another = await service.api.agent(operator);
    const by = await moved(async () => {
      await service.api.token(agent);
      await service.api.call('GET', '/agents', operator);
      await service.api.requestToken({ ...another, clientSecret: 'x' });
    });
    for (const queue of ['tokens', 'clients', 'token_states', 'refusals']) {
      expect([queue, by(`agentidp_flush_size_count{queue="${queue}"}`) >= 1]).toEqual([queue, true]);
      expect([queue, by(`agentidp_flush_seconds_sum{queue="${queue}"}`) > 0]).toEqual([queue, true]);
      expect((await samples()).get(`agentidp_queue_depth{queue="${queue}"}`)).toBe(0);
    }
    expect(by('agentidp_flush_size_sum{queue="tokens"}')).toBe(1);
  });

  it('tell the connections of the pool', async () => {
    const now = await samples();
    const total = now.get('agentidp_pg_pool_connections{state="total"}') ?? 0;
    expect(total).toBeGreaterThan(0);
    expect(total).toBeLessThanOrEqual(20);
    expect(now.get('agentidp_pg_pool_connections{state="waiting"}')).toBe(0);
  });

  it('time requests by method, route pattern and class of status', async () => {
    const read = 'method="GET",route="/api/v1/agents/:agentId"';
    const name = (labels: string): string => `agentidp_http_request_duration_seconds_count{${labels}}`;
    const by = await moved(async () => {
      await service.api.call('GET', `/agents/${agent.agentId}`, operator);
      await service.api.call('GET', '/agents/nobody', operator);
      await service.api.call('GET', '/agents/x', 'garbage');
    });
    expect(by(name(`${read},status="2xx"`))).toBe(1);
    expect(by(name(`${read},status="4xx"`))).toBe(2);
  });

  it('have no label without bound: what callers invent makes no new series', async () => {
    const provoke = async (mark: string): Promise<void> => {
      await Promise.all([
        service.api.send('GET', `/${mark}`),
        service.api.send('GET', `/api/v1/agents/${mark}?a=${mark}`),
        service.api.send('GET', `/api/v1/agents/${mark}/credentials`, { headers: { Authorization: `Bearer ${mark}` } }),
        service.api.send('PROPFIND', `/${mark}`),
        service.api.send('OPTIONS', `/api/v1/token`),
        service.api.form('/api/v1/token', { grant_type: mark }),
        service.api.form('/api/v1/token', { grant_type: 'client_credentials', client_id: mark, client_secret: mark }),
        service.api.requestToken(agent, { scope: mark, resource: mark }),
        service.api.introspect(operator, mark),
        service.api.call('POST', '/agents', operator, { name: mark, type: mark, owner: mark }),
      ]);
    };
    await provoke('first');
    const before = new Set((await samples()).keys());
    for (let index = 0; index < 5; index += 1) await provoke(`invented-${index}`);
    const { text } = await service.api.send('GET', '/metrics');
    expect(text).not.toContain('invented');
    expect(text).not.toContain(agent.agentId);
    const added = [...(await samples()).keys()].filter((name) => !before.has(name) && !name.includes('nodejs_gc'));
    expect(added).toEqual([]);
  });
});

describe('the log', () => {
  const written: string[] = [];
  let service: TestApp;
  let operator: string;
  let agent: TestAgent;

  beforeAll(async () => {
    service = await startLoggedApp(written, 'trace');
    operator = await service.api.token(service.operator);
    agent = await service.api.agent(operator, { scopes: ['agents:read'] });
  });
  afterAll(() => service.close());

  const lines = (): Line[] => written.map((line) => JSON.parse(line) as Line);
  const of = (id: string): Line[] => lines().filter(({ reqId }) => reqId === id);
  /** The line of a request; it is written once the answer has left. */
  const requestLine = async (id: string): Promise<Line> => {
    const found = await until(
      () => of(id).filter(({ msg }) => msg === 'request'),
      ({ length }) => length > 0,
    );
    expect(found).toHaveLength(1);
    return found[0] as Line;
  };

  it('is one line of JSON for each request, with id, method, path, status, time and address', async () => {
    const { headers } = await service.api.call('GET', `/agents/${agent.agentId}?x=1`, operator);
    expect(await requestLine(headers.get('x-request-id') ?? '')).toEqual({
      level: 30,
      time: expect.any(Number),
      reqId: headers.get('x-request-id'),
      method: 'GET',
      path: `/api/v1/agents/${agent.agentId}`,
      status: 200,
      ms: expect.any(Number),
      ip: '127.0.0.1',
      msg: 'request',
    });
  });

  it('tells why a request was refused, under the same id, at debug', async () => {
    const { headers } = await service.api.requestToken({ ...agent, clientSecret: 'wrong' });
    const id = headers.get('x-request-id') ?? '';
    await requestLine(id);
    expect(of(id)).toContainEqual(
      expect.objectContaining({ level: 20, code: 'invalid_client', status: 401, detail: 'secret_mismatch' }),
    );
  });

  it('holds neither secrets nor tokens, wherever a client puts them', async () => {
    const token = await service.api.token(agent);
    const secret = agent.clientSecret;
    const attempts: Promise<Answer>[] = [
      service.api.requestToken(agent),
      service.api.form('/api/v1/token', { grant_type: 'client_credentials' }, basic(agent)),
      service.api.form(`/api/v1/token?client_secret=${secret}`, { grant_type: 'client_credentials' }),
      service.api.form('/api/v1/token', { grant_type: secret, client_id: token }),
      service.api.form('/api/v1/token', { [secret]: token }),
      service.api.requestToken({ ...agent, clientSecret: `${secret}x` }),
      service.api.requestToken(agent, { scope: token, resource: secret }),
      service.api.send('POST', '/api/v1/token', {
        body: `{"client_secret":"${secret}"`,
        headers: { 'Content-Type': 'application/json' },
      }),
      service.api.form('/api/v1/token/introspect', { token }, { Authorization: `Bearer ${operator}` }),
      service.api.form('/api/v1/token/revoke', { token: `${token}x` }, { Authorization: `Bearer ${token}` }),
      service.api.send('GET', `/api/v1/agents?access_token=${token}`, { headers: { Cookie: `session=${token}` } }),
      service.api.call('POST', '/agents', operator, { name: 'x', password: secret, token }),
      service.api.call('POST', `/agents/${agent.agentId}/credentials`, operator, { clientSecret: secret }),
      service.api.send('GET', '/api/v1/agents', {
        headers: { Authorization: `Bearer ${token}`, 'User-Agent': secret },
      }),
      service.api.send('GET', '/api/v1/agents', {
        headers: { Authorization: `Token ${secret}`, 'X-Request-Id': `${secret} ` },
      }),
    ];
    const made = await service.api.call('POST', `/agents/${agent.agentId}/credentials`, operator, {});
    for (const { headers } of await Promise.all(attempts)) {
      const id = headers.get('x-request-id') ?? '';
      if (id !== secret) await requestLine(id);
    }
    const log = written.filter((line) => !line.includes(`"reqId":"${secret}"`)).join('');
    for (const each of [secret, token, operator, String(made.body['clientSecret']), service.operator.clientSecret]) {
      // Neither the whole nor a telling part, as it is or encoded.
      expect(log).not.toContain(each.slice(0, 20) === operator.slice(0, 20) ? each.slice(-40) : each.slice(0, 20));
      expect(log).not.toContain(Buffer.from(each).toString('base64').slice(0, 40));
    }
    expect(log).not.toContain((basic(agent)['Authorization'] ?? '').slice(-30));
  });
});

describe('the log at info', () => {
  it('tells a fault of ours at error, with its stack, and nothing of it to the caller', async () => {
    const own: string[] = [];
    const broken = await startLoggedApp(own, 'info');
    try {
      const token = await broken.api.token(broken.operator);
      await broken.database.query('ALTER TABLE agents RENAME COLUMN labels TO tags');
      const answer = await broken.api.call('GET', '/agents', token);
      expect([answer.status, answer.body['code']]).toEqual([500, 'internal_error']);
      expect(answer.text).not.toMatch(/labels|column|SELECT/);
      const line = own.map((each) => JSON.parse(each) as Line).find(({ level }) => level === 50);
      expect(line).toMatchObject({
        reqId: answer.headers.get('x-request-id'),
        status: 500,
        err: { message: expect.stringContaining('labels'), stack: expect.any(String) },
      });
      expect(own.map((each) => JSON.parse(each) as Line)).toContainEqual(
        expect.objectContaining({ level: 40, msg: 'request', status: 500 }),
      );
    } finally {
      await broken.close();
    }
  });

  it('leaves out probes and metrics at info', async () => {
    const own: string[] = [];
    const quiet = await startLoggedApp(own, 'info');
    try {
      for (const path of ['/health/live', '/health/ready', '/metrics']) await quiet.api.send('GET', path);
      await quiet.api.send('GET', '/api/v1/agents', { headers: { 'X-Request-Id': 'last' } });
      await until(
        () => own.join(''),
        (text) => text.includes('"last"'),
      );
      expect(own.join('')).not.toMatch(/\/health|\/metrics/);
    } finally {
      await quiet.close();
    }
  });
});

describe('every answer', () => {
  let service: TestApp;
  let operator: string;

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
  });
  afterAll(() => service.close());

  it.each([
    ['GET', '/health/live', 200],
    ['GET', '/metrics', 200],
    ['GET', '/.well-known/jwks.json', 200],
    ['GET', '/api/v1/agents', 200],
    ['POST', '/api/v1/token', 400],
    ['GET', '/api/v1/agents/nobody', 404],
    ['GET', '/nowhere', 404],
    ['PUT', '/api/v1/agents', 405],
    ['GET', '/api/docs', 200],
    ['GET', '/api/openapi.json', 200],
  ])('has the security headers: %s %s', async (method, path, status) => {
    const headers = { Authorization: `Bearer ${operator}` };
    const answer = await service.api.send(method, path, path === '/api/v1/token' ? {} : { headers });
    expect(answer.status).toBe(status);
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
    expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
    expect(answer.headers.get('cross-origin-resource-policy')).toBe('same-origin');
    expect(answer.headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
    expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(answer.headers.get('cache-control')).not.toBeNull();
    expect(answer.headers.get('x-powered-by')).toBeNull();
    expect(answer.headers.get('server')).toBeNull();
    expect(answer.headers.get('access-control-allow-origin')).toBeNull();
    expect(answer.headers.get('strict-transport-security')).toBeNull();
  });

  it('asks browsers to stay with TLS where the issuer has it', async () => {
    const own = await startTestApp({ env: { ISSUER: 'https://id.example.test' } });
    try {
      const { headers } = await own.api.send('GET', '/health/live');
      expect(headers.get('strict-transport-security')).toMatch(/^max-age=\d{8,}$/);
    } finally {
      await own.close();
    }
  });

  it('has the id of the request: the caller’s own, where it is well-formed', async () => {
    const idFor = async (given?: string): Promise<string | null> => {
      const init = given === undefined ? {} : { headers: { 'X-Request-Id': given } };
      return (await service.api.send('GET', '/health/live', init)).headers.get('x-request-id');
    };
    for (const id of ['a', 'A-b_c.9', 'x'.repeat(64)]) expect(await idFor(id)).toBe(id);
    const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    for (const id of [undefined, '', 'x'.repeat(65), 'a b', '{"x":1}', 'ü', '<script>'])
      expect(await idFor(id)).toMatch(uuid);
    expect(await idFor()).not.toBe(await idFor());
  });

  it('has an id of its own even where the request is refused early', async () => {
    for (const path of ['/nowhere', '/%', '/api/v1/token', '/api/v1/agents?limit=x']) {
      expect((await service.api.send('DELETE', path)).headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
    }
  });
});
