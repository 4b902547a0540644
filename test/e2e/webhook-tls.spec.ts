import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Webhook } from 'standardwebhooks';
import { TestAuthority, type CertificateOptions } from '../support/certificates.js';
import { Receiver } from '../support/receiver.js';
import { cleanUpProcesses, environmentOf, startService, type ServiceProcess } from '../support/service-process.js';
import { deliveriesOf, subscribe } from '../support/subscriptions.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { until } from '../support/until.js';

/** Delivery over TLS, by the service as production runs it. */
describe('webhooks over https', () => {
  const trusted = new TestAuthority();
  const strange = new TestAuthority();
  let folder: string;
  let database: TestDatabase;
  let service: ServiceProcess;
  let token: string;
  const receivers: Receiver[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'agentidp-tls-'));
    const authorities = join(folder, 'authorities.pem');
    await writeFile(authorities, trusted.cert);
    database = await createTestDatabase();
    const operator = { clientId: randomUUID(), clientSecret: randomUUID() };
    service = await startService({
      ...environmentOf(database),
      BOOTSTRAP_CLIENT_ID: operator.clientId,
      BOOTSTRAP_CLIENT_SECRET: operator.clientSecret,
      NODE_ENV: 'production',
      NODE_EXTRA_CA_CERTS: authorities,
      WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8',
    });
    token = await service.api.token(operator);
  });
  afterAll(async () => {
    for (const receiver of receivers) await receiver.close();
    await cleanUpProcesses();
    await database.drop();
    await rm(folder, { recursive: true });
  });

  async function receiverWith(options: CertificateOptions, authority = trusted): Promise<Receiver> {
    const receiver = await Receiver.start(
      (_message, response) => response.writeHead(204).end(),
      authority.issue(options),
    );
    receivers.push(receiver);
    return receiver;
  }

  /** Has one event sent to a URL, and gives the delivery once its first attempt has ended. */
  async function deliver(url: string) {
    const { webhookId, signingSecret } = await subscribe(service.api, token, url, ['agent.created']);
    await service.api.agent(token);
    const history = () => deliveriesOf(service.api, token, webhookId);
    await until('it was tried', async () => (await history())[0]?.attempts.length === 1);
    const [delivery] = await history();
    await service.api.call('DELETE', `/webhooks/${webhookId}`, token);
    return { delivery, signingSecret };
  }

  it('reach a receiver whose certificate is for the name of the URL, which the handshake names', async () => {
    const receiver = await receiverWith({ hosts: ['localhost'] });
    const { delivery, signingSecret } = await deliver(receiver.urlAt('localhost'));
    expect(delivery).toMatchObject({ status: 'delivered', attempts: [{ statusCode: 204, error: null }] });
    const [message] = receiver.received;
    expect(message?.serverName).toBe('localhost');
    expect(new Webhook(signingSecret).verify(message?.text ?? '', { ...message?.headers })).toEqual(message?.body);
  });

  it('reach a receiver by its address, where the certificate is for that', async () => {
    const receiver = await receiverWith({ hosts: ['127.0.0.1'] });
    expect((await deliver(receiver.url)).delivery).toMatchObject({ status: 'delivered' });
    expect(receiver.received[0]?.serverName).toBe(false);
  });

  it.each([
    ['is for another name', 'localhost', { hosts: ['receiver.example'] }, trusted],
    ['is for the address that was checked and not for the name', 'localhost', { hosts: ['127.0.0.1'] }, trusted],
    ['is for the name and not for the address', '127.0.0.1', { hosts: ['localhost'] }, trusted],
    ['has expired', 'localhost', { hosts: ['localhost'], notAfter: new Date(Date.now() - 60_000) }, trusted],
    ['is of a strange authority', 'localhost', { hosts: ['localhost'] }, strange],
  ])('send nothing to a receiver whose certificate %s', async (_what, host, options, authority) => {
    const receiver = await receiverWith(options, authority);
    const { delivery } = await deliver(receiver.urlAt(host));
    expect(delivery).toMatchObject({
      status: 'pending',
      attempts: [{ statusCode: null, error: 'the TLS handshake failed', answer: null }],
    });
    expect(receiver.received).toEqual([]);
  });

  it('send nothing to a receiver that does not speak TLS', async () => {
    const receiver = await Receiver.start();
    receivers.push(receiver);
    const { delivery } = await deliver(receiver.url.replace('http:', 'https:'));
    expect(delivery).toMatchObject({ status: 'pending', attempts: [{ statusCode: null }] });
    expect(receiver.received).toEqual([]);
  });

  it('are the only ones outside the named networks', async () => {
    const refused = await service.api.call('POST', '/webhooks', token, { url: 'http://1.1.1.1/', events: ['*'] });
    expect([refused.status, refused.body['errors']]).toEqual([
      400,
      [{ pointer: '/url', detail: 'url must be an https URL' }],
    ]);
  });
});
