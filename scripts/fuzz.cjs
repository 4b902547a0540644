'use strict';
/*
 * npm run test:fuzz -- [--requests N] [--seed S] [--only TEXT]: sends N generated requests (1000) to every operation of
 * the API document whose name, such as "POST /api/v1/agents", has TEXT in it. Without --seed each run has another one; it is
 * printed, and with it the same requests are made again. LOG_LEVEL=error shows what the service says of its faults.
 */
const { spawnSync } = require('node:child_process');
const { randomInt } = require('node:crypto');
const path = require('node:path');
const { parseArgs } = require('node:util');

const { values } = parseArgs({
  options: { requests: { type: 'string' }, seed: { type: 'string' }, only: { type: 'string' } },
});
for (const [name, value] of Object.entries(values)) {
  if (name !== 'only' && !/^\d{1,10}$/.test(value)) {
    console.error(`--${name} takes a number.`);
    process.exit(2);
  }
}
const env = {
  ...process.env,
  ...(values.requests === undefined ? {} : { FUZZ_REQUESTS: values.requests }),
  FC_SEED: values.seed ?? String(randomInt(2 ** 31)),
  ...(values.only === undefined ? {} : { FUZZ_ONLY: values.only }),
};
const args = [path.join(__dirname, 'test.cjs'), '--long', 'test/fuzz'];
process.exit(spawnSync(process.execPath, args, { stdio: 'inherit', env }).status ?? 1);
