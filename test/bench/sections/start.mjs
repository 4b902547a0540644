import { mkdtempSync, chmodSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { median } from '../report.mjs';
import { startOn, startPostgres, stopAll } from '../service.mjs';
import { residentMemory } from '../processor-time.mjs';

const STARTS = 5;

/** How long a start takes: on a server that is up, and with a warm embedded data directory, by `npm start`'s launcher. */
export async function start() {
  const postgres = await startPostgres();
  const onServer = [];
  const memory = [];
  await (await startOn(postgres)).stop();
  for (let count = 0; count < STARTS; count += 1) {
    const service = await startOn(postgres);
    onServer.push(service.readyMs);
    memory.push(residentMemory(service.pid) / 1048576);
    await service.stop();
  }
  await stopAll();
  const folder = mkdtempSync(path.join(os.tmpdir(), 'agentidp-bench-'));
  chmodSync(folder, 0o711);
  const embedded = [];
  try {
    for (let count = 0; count <= STARTS; count += 1) embedded.push(await embeddedStart(path.join(folder, 'data')));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const row = (name, asked, all, digits = 0) => [
    name,
    asked,
    ...[median(all), Math.max(...all)].map((n) => n.toFixed(digits)),
  ];
  return {
    name: 'start',
    title: 'From the start of the process until it listens, and what it holds then',
    head: ['case', 'asked for', 'median', 'most'],
    rows: [
      row('on a server that is up, ms', '1000', onServer),
      row('embedded, data directory warm, ms', '2000', embedded.slice(1)),
      row('resident memory after the start, MB', '200', memory),
    ],
  };
}

async function embeddedStart(data) {
  const started = performance.now();
  const child = spawn(process.execPath, [path.join(import.meta.dirname, '../../../scripts/start.cjs')], {
    env: { ...process.env, PORT: '0', DATA_DIR: data, DATABASE_URL: '' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let seen = '';
  for await (const chunk of child.stdout) {
    seen += chunk;
    if (seen.includes('listens on')) break;
  }
  const took = performance.now() - started;
  if (!seen.includes('listens on')) throw new Error(`the service ended before it listened: ${seen}`);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
  return took;
}
