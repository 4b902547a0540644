import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const PROBE_EVERY_MS = 50;

/**
 * A load balancer as small as can be: hands each connection to one of the replicas whose `/health/ready` answers 200, in
 * turn, and passes bytes on.
 */
export class TinyBalancer {
  private replicas: readonly string[] = [];
  private ready: readonly string[] = [];
  private turn = 0;
  private closed = false;
  private readonly sockets = new Set<Socket>();
  private probing: Promise<void> = Promise.resolve();
  private readonly server = createServer((client) => this.pass(client));

  /** Listens, and begins to probe. */
  async start(replicas: readonly string[]): Promise<void> {
    this.setReplicas(replicas);
    this.probing = this.probe();
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', 4096, resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  setReplicas(replicas: readonly string[]): void {
    this.replicas = replicas;
  }

  /** Whether it hands connections to a replica at the moment. */
  uses(url: string): boolean {
    return this.ready.includes(url);
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.probing;
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async probe(): Promise<void> {
    while (!this.closed) {
      const answers = await Promise.all(
        this.replicas.map((url) =>
          fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(1000) }).then(
            ({ ok }) => ok,
            () => false,
          ),
        ),
      );
      this.ready = this.replicas.filter((_url, index) => answers[index] === true);
      await delay(PROBE_EVERY_MS);
    }
  }

  private pass(client: Socket): void {
    const url = this.ready[(this.turn += 1) % Math.max(1, this.ready.length)];
    if (url === undefined) return void client.destroy();
    const upstream = connect(Number(new URL(url).port), '127.0.0.1');
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.sockets.delete(from);
        to.end();
      });
    }
  }
}
