'use strict';
/*
 * npm test, npm run test:long (--long: only *.long.ts). Sets up what is missing, starts one PostgreSQL in a temporary
 * folder for all tests (TEST_SUPERUSER_URL) and runs Jest; once more against TEST_DATABASE_URL where that is set. Other
 * arguments go to Jest. Prints the totals at the end and exits with Jest's code.
 */
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { endWithNpm } = require('./npm-parent.cjs');
const { ROOT, prepareOrExit } = require('./setup.cjs');

const SIGNAL_CODES = { SIGINT: 130, SIGTERM: 143 };
/** How long Jest may take to end after its last test. */
const END_LIMIT_MS = 60_000;
let interruptedBy = null;
let jest = null;

for (const signal of Object.keys(SIGNAL_CODES)) {
  process.on(signal, () => {
    interruptedBy ??= signal;
    jest?.kill(signal);
  });
}

main().then(
  (code) => process.exit(code),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

async function main() {
  prepareOrExit();
  endWithNpm();
  const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'agentidp-test-'));
  const totals = { passed: 0, failed: 0 };
  let code = 0;
  try {
    // As root PostgreSQL runs under another account, which has to enter the folder.
    if (process.getuid?.() === 0) fs.chmodSync(temporary, 0o711);
    const { startEmbeddedPostgres } = await import(
      pathToFileURL(path.join(ROOT, 'dist/src/platform/database/embedded/embedded-postgres.js')).href
    );
    const postgres = await startEmbeddedPostgres({
      dataDirectory: path.join(temporary, 'data'),
      announce: (line) => console.error(line),
    });
    try {
      if (!process.argv.includes('--long')) await forgoDurability(postgres.superuserUrl);
      const servers = [postgres.superuserUrl];
      if (process.env.TEST_DATABASE_URL) servers.push(process.env.TEST_DATABASE_URL);
      for (const [index, url] of servers.entries()) {
        if (interruptedBy !== null) break;
        if (index > 0) console.error('Once more, against TEST_DATABASE_URL ...');
        code = (await runJest(url, path.join(temporary, `result-${index}.json`), totals)) || code;
      }
    } finally {
      await postgres.stop();
      fs.rmSync(postgres.dataDirectory, { recursive: true, force: true });
    }
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true });
  }
  console.log(`${totals.passed} passed, ${totals.failed} failed`);
  return interruptedBy === null ? code : SIGNAL_CODES[interruptedBy];
}

/**
 * Has the server wait for no disk. Its files are gone with this run, and tests make and drop hundreds of databases. The
 * end of a process loses nothing by it, only that of the machine would; servers that tests kill are their own. The long
 * tests measure times that are promised, so their server is as one in production.
 */
async function forgoDurability(superuserUrl) {
  const { Client } = require('pg');
  const client = new Client({ connectionString: superuserUrl });
  await client.connect();
  try {
    for (const setting of ['fsync', 'full_page_writes']) await client.query(`ALTER SYSTEM SET ${setting} = off`);
    await client.query('SELECT pg_reload_conf()');
  } finally {
    await client.end();
  }
}

/** Runs Jest against the server at `url`, adds its counts to `totals` and resolves to its exit code. */
async function runJest(url, resultFile, totals) {
  const given = process.argv.slice(2);
  const args = [
    ...['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'],
    path.join(ROOT, 'node_modules/jest/bin/jest.js'),
    ...['--passWithNoTests', '--json', `--outputFile=${resultFile}`],
    ...(given.includes('--long') ? ['--testMatch=**/*.long.ts', '--runInBand'] : []),
    ...given.filter((argument) => argument !== '--long'),
  ];
  let overdue = null;
  const code = await new Promise((resolve, reject) => {
    // Jest's JSON goes to the file; what it says for people goes to standard error.
    jest = spawn(process.execPath, args, {
      cwd: ROOT,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, TEST_SUPERUSER_URL: url },
    });
    jest.once('error', reject);
    jest.once('exit', (exitCode) => resolve(exitCode ?? 1));
    // What a test has left running keeps Jest from ending, for ever: that is a failure, and is told as one.
    const isOver = setInterval(() => {
      if (!fs.existsSync(resultFile)) return;
      clearInterval(isOver);
      overdue = setTimeout(() => {
        console.error(
          `Jest has not ended ${END_LIMIT_MS / 1000} s after its last test: a test has left something running.`,
        );
        jest.kill('SIGKILL');
      }, END_LIMIT_MS);
    }, 1000);
    jest.once('exit', () => clearInterval(isOver));
  });
  clearTimeout(overdue);
  jest = null;
  if (!fs.existsSync(resultFile)) {
    if (code !== 0) totals.failed += 1;
    return code;
  }
  const result = JSON.parse(fs.readFileSync(resultFile, 'utf8'));
  totals.passed += result.numPassedTests;
  // A file that does not even load has no failed tests, but fails.
  totals.failed += result.numFailedTests + result.numRuntimeErrorTestSuites;
  return code;
}
