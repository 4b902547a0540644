import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort, startTestApp, type TestApp } from '../support/test-app.js';
import { until } from '../support/until.js';

const ROOT = join(import.meta.dirname, '../..');

/** The receiver of docs/webhooks.md, as a reader would run it. */
describe('the guide to webhooks', () => {
  let service: TestApp;
  let receiver: ChildProcess | undefined;

  beforeAll(async () => {
    service = await startTestApp({ env: { WEBHOOK_ALLOWED_NETWORKS: '127.0.0.1' } });
  });
  afterAll(async () => {
    receiver?.kill();
    await service.close();
  });

  it('shows a receiver of 15 lines that takes genuine messages and refuses forged ones', async () => {
    const [, code = ''] = /```js\n([^]*?)```/.exec(readFileSync(join(ROOT, 'docs/webhooks.md'), 'utf8')) ?? [];
    // The first line is the name of the file.
    expect(code.trim().split('\n').slice(1)).toHaveLength(15);

    const port = await freePort();
    const url = `http://127.0.0.1:${port}/`;
    const token = await service.api.token(service.operator);
    const { body } = await service.api.call('POST', '/webhooks', token, { url, events: ['agent.created'] });
    let printed = '';
    receiver = spawn(process.execPath, ['--input-type=module', '-e', code], {
      cwd: ROOT,
      env: { ...process.env, PORT: String(port), WEBHOOK_SECRET: String(body['signingSecret']) },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    receiver.stdout?.on('data', (chunk: Buffer) => (printed += chunk.toString()));
    await until('the receiver listens', () => accepts(port));

    const { agentId } = await service.api.agent(token);
    await until('it has printed the event', () => printed.endsWith('\n'));
    expect(printed).toBe(`agent.created ${agentId}\n`);

    const forged = await fetch(url, {
      method: 'POST',
      body: '{"type":"agent.created","data":{"target":{"id":"forged"}}}',
      headers: {
        'webhook-id': 'x',
        'webhook-timestamp': String(Math.floor(Date.now() / 1000)),
        'webhook-signature': 'v1,AAAA',
      },
    });
    expect(forged.status).toBe(400);
    expect(printed).not.toContain('forged');
  });
});

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
