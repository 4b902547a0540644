'use strict';
/*
 * npm run test:faults, npm run test:soak [-- --minutes N --seed N], npm run test:planted: one of the long tests alone, for
 * as long and with the seed that is asked for.
 */
const { spawnSync } = require('node:child_process');
const path = require('node:path');

const [file, ...given] = process.argv.slice(2);
const env = { ...process.env };
for (let at = 0; at < given.length; at += 2) {
  const variable = { '--minutes': 'TEST_MINUTES', '--seed': 'TEST_SEED' }[given[at]];
  const value = given[at + 1];
  if (variable === undefined || !(Number(value) > 0)) {
    console.error('Usage: npm run test:faults|test:soak|test:planted [-- --minutes N --seed N]');
    process.exit(64);
  }
  env[variable] = value;
}
const run = spawnSync(process.execPath, [path.join(__dirname, 'test.cjs'), '--long', file], { env, stdio: 'inherit' });
process.exit(run.status ?? 1);
