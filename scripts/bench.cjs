'use strict';
/* npm run bench [-- --quick]: sets up what is missing, the benchmark's own packages too, and runs it. */
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { ROOT, prepareOrExit } = require('./setup.cjs');

prepareOrExit();
const folder = path.join(ROOT, 'test/bench');
// By npm's own record: a version of before may have had other rivals.
const record = fs.statSync(path.join(folder, 'node_modules/.package-lock.json'), { throwIfNoEntry: false });
const isInstalled =
  record !== undefined && record.mtimeMs >= fs.statSync(path.join(folder, 'package-lock.json')).mtimeMs;
if (!isInstalled) {
  const installed = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], {
    cwd: folder,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (installed.status !== 0) process.exit(installed.status ?? 1);
}
const run = spawnSync(process.execPath, [path.join(folder, 'run.mjs'), ...process.argv.slice(2)], { stdio: 'inherit' });
process.exit(run.status ?? 1);
