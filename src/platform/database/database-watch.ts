import { Logger, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import type { ConnectionSockets } from './connection-sockets.js';
import { sqlStateOf } from './sql-errors.js';

/** How often the database is asked while it answers, and while it does not, in milliseconds. */
const ASK_EVERY_MS = 300;
const ASK_AGAIN_MS = 150;
/** How long an answer may take, in ticks: time in which this process itself stood still does not count. */
const TICK_MS = 100;
const ANSWER_TICKS = 12;
const AGAIN_TICKS = 5;
/** Connections that are tried at one time, while it does not answer. */
const MOST_TRIES = 8;

/** What the server says that cannot take part: it starts, stops, or is a standby. */
const NOT_SERVING: ReadonlySet<string> = new Set(['57P01', '57P02', '57P03', '25006']);

type Verdict = 'answers' | 'standby' | 'silent';

/**
 * Asks the database again and again, on a connection of its own, whether it is there and takes writes. Where it does not
 * answer within little more than a second, all connections of the pool are ended, so that everything that waits is
 * answered 503, and everything that comes is refused at once; as soon as it answers, connections are opened again. A
 * database that was stopped, lost behind a dead network or made a standby is told by nothing else: TCP itself waits for
 * minutes.
 */
export class DatabaseWatch implements OnModuleInit, OnApplicationShutdown {
  private readonly logger = new Logger('Database');
  private readonly stopping = new AbortController();
  private line: WatchLine | null = null;
  private watching: Promise<void> | null = null;

  /**
   * @param url the URL of the serving role
   * @param sockets those of the pool
   */
  constructor(
    private readonly url: string,
    private readonly sockets: ConnectionSockets,
  ) {}

  /** Begins to watch, once the pool has its first connection. */
  onModuleInit(): void {
    this.watching = this.watch();
  }

  /** Ends the watching. */
  async onApplicationShutdown(): Promise<void> {
    this.sockets.close();
    this.stopping.abort();
    await this.watching;
    this.line?.end();
  }

  /** Told that a connection leads to a server that takes no writes: the pool opens others. */
  connectionsLeadAstray(): void {
    this.sockets.end();
  }

  private async watch(): Promise<void> {
    while (!this.stopping.signal.aborted) {
      const readBefore = this.sockets.bytesRead;
      const verdict = await this.ask();
      if (this.stopping.signal.aborted) return;
      // Where others got an answer meanwhile, it is only the connection of this watch that is broken.
      if (verdict === 'standby' || (verdict === 'silent' && this.sockets.bytesRead === readBefore)) {
        this.sockets.keepOut();
        this.logger.warn(`the database is away (${verdict}): what waits for it is answered 503`);
        await this.untilItAnswers();
        if (this.stopping.signal.aborted) return;
        this.sockets.letIn();
        this.logger.warn('the database answers again');
      }
      await this.pause(ASK_EVERY_MS);
    }
  }

  private async ask(): Promise<Verdict> {
    const isKept = this.line !== null;
    const line = (this.line ??= new WatchLine(this.url));
    const verdict = await Promise.race([line.verdict(), this.limit(ANSWER_TICKS)]);
    const broke = line.isEnded;
    if (verdict !== 'answers') line.end();
    if (line.isEnded) this.line = null;
    // That the connection from before broke may be its own affair, and is told at once, when others can have got no
    // answer meanwhile: a new one tells of the database. Silence is waited for, and waited for once.
    return isKept && broke && verdict === 'silent' ? this.ask() : verdict;
  }

  /**
   * Tries with one new connection after the other, and goes on waiting for those before: one that is lost in a dead
   * network holds up none, and one that a busy machine takes long to make is not given up.
   */
  private async untilItAnswers(): Promise<void> {
    const tries: { readonly line: WatchLine; readonly verdict: Promise<Verdict> }[] = [];
    while (!this.stopping.signal.aborted) {
      const line = new WatchLine(this.url);
      tries.push({ line, verdict: line.verdict() });
      if (tries.length > MOST_TRIES) tries.shift()?.line.end();
      const settling = tries.map(async (each) => ({ each, verdict: await each.verdict }));
      const settled = await Promise.race([...settling, this.limit(AGAIN_TICKS).then(() => null)]);
      if (settled === null) continue;
      tries.splice(tries.indexOf(settled.each), 1);
      if (settled.verdict === 'answers') {
        if (!settled.each.line.isEnded) this.line = settled.each.line;
        break;
      }
      settled.each.line.end();
      await this.pause(ASK_AGAIN_MS);
    }
    for (const { line } of tries) line.end();
  }

  private async limit(ticks: number): Promise<Verdict> {
    for (let tick = 0; tick < ticks && !this.stopping.signal.aborted; tick += 1) await this.pause(TICK_MS);
    return 'silent';
  }

  private async pause(milliseconds: number): Promise<void> {
    await delay(milliseconds, undefined, { signal: this.stopping.signal, ref: false }).catch(() => undefined);
  }
}

/** The connection of the watch. */
class WatchLine {
  private readonly socket = new Socket();
  private readonly client: Client;
  private readonly connected: Promise<unknown>;

  constructor(url: string) {
    this.client = new Client({
      connectionString: url,
      application_name: 'agentidp watch',
      stream: () => this.socket,
    });
    // Told by the question that fails.
    this.client.on('error', () => this.end());
    this.connected = this.client.connect();
  }

  get isEnded(): boolean {
    return this.socket.destroyed;
  }

  /** What the server says; where it says nothing, this never settles until the connection is ended. */
  async verdict(): Promise<Verdict> {
    try {
      await this.connected;
      const { rows } = await this.client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby');
      return rows[0]?.standby === true ? 'standby' : 'answers';
    } catch (error) {
      this.end();
      const state = sqlStateOf(error);
      // A server that refuses the watch for another reason, such as too many connections, is there all the same.
      return state === undefined || NOT_SERVING.has(state) ? 'silent' : 'answers';
    }
  }

  end(): void {
    this.socket.destroy();
  }
}
