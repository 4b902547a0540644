import cluster from 'node:cluster';
import { setFlagsFromString } from 'node:v8';
import type { Config } from './platform/config/config.js';
import { openDatabase, type OpenDatabase } from './platform/database/open-database.js';
import { Metrics } from './platform/http/metrics.js';
import { MetricsExchange } from './platform/workers/metrics-exchange.js';
import { onPrimary, tellPrimary, type ToWorker } from './platform/workers/worker-messages.js';
import { FirstWorkerFailed, WorkerPool } from './platform/workers/worker-pool.js';
import { say, Service, SHUTDOWN_LIMIT_MS } from './service.js';
import { askedToEnd } from './signals.js';
import { loadConfigOrExit, startFailure } from './start-up.js';

/** How much longer than a worker its primary process waits, in milliseconds. */
const GRACE_MS = 2000;

// Of what requests leave behind, little survives: threads that share the copying of it cost more than the copying.
setFlagsFromString('--no-parallel-scavenge');

const config = loadConfigOrExit();
if (cluster.isWorker) await work(config);
else if (config.http.workers > 1) await lead(config);
else await serve(config);

/** One process that does everything. */
async function serve(config: Config): Promise<void> {
  let database: OpenDatabase | null = null;
  try {
    database = await openWatched(config);
    const service = await Service.start(config, database, true);
    const signal = await askedToEnd;
    say('AgentIdP is shutting down.');
    await service.drain(signal);
    await database.stop();
    process.exit(0);
  } catch (error) {
    await fail(error, database);
  }
}

/** The primary process of several workers: opens the database once, and sees to it that the workers live. */
async function lead(config: Config): Promise<void> {
  let database: OpenDatabase | null = null;
  try {
    database = await openWatched(config);
    const { servingUrl, masterKey, previousMasterKey } = database;
    const size = config.http.workers;
    const pool = new WorkerPool({
      size,
      servingUrl,
      masterKey,
      previousMasterKey,
      announce: (line) => console.error(line),
    });
    const workers = await pool.start();
    say(`AgentIdP serves with ${size} workers: ${workers.join(', ')}.`);
    const signal = await askedToEnd;
    say('AgentIdP is shutting down.');
    const exitCode = await pool.stop(signal, config.http.shutdownDelaySeconds * 1000 + SHUTDOWN_LIMIT_MS + GRACE_MS);
    await database.stop();
    process.exit(exitCode);
  } catch (error) {
    await fail(error, database);
  }
}

/** A worker: serves on the database that its primary process has opened. */
async function work(config: Config): Promise<void> {
  try {
    const { servingUrl, masterKey, previousMasterKey, first } = await begin();
    const keys = {
      masterKey: Buffer.from(masterKey, 'base64'),
      previousMasterKey: previousMasterKey === null ? null : Buffer.from(previousMasterKey, 'base64'),
    };
    const service = await Service.start(config, { servingUrl, ...keys }, first);
    const metrics = service.app.get(Metrics);
    metrics.answerForAll(new MetricsExchange(() => metrics.own()));
    tellPrimary({ kind: 'ready' });
    await service.drain(await askedToEnd);
    process.exit(0);
  } catch (error) {
    await fail(error, null);
  }
}

function begin(): Promise<Extract<ToWorker, { kind: 'begin' }>> {
  return new Promise((resolve) => {
    onPrimary((message) => {
      if (message.kind === 'begin') resolve(message);
    });
    tellPrimary({ kind: 'born' });
  });
}

async function openWatched(config: Config): Promise<OpenDatabase> {
  const database = await openDatabase(config, say);
  database.onLost((reason) => {
    console.error(reason.message);
    process.exit(1);
  });
  return database;
}

async function fail(error: unknown, database: OpenDatabase | null): Promise<never> {
  await database?.stop();
  // The worker has said why.
  if (error instanceof FirstWorkerFailed) process.exit(error.exitCode);
  const { message, exitCode } = startFailure(error);
  console.error(`AgentIdP could not start: ${message}`);
  process.exit(exitCode);
}
