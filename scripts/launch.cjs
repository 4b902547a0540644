'use strict';
const fs = require('node:fs');
const { enableCompileCache } = require('node:module');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const { endWithNpm } = require('./npm-parent.cjs');
const { ROOT, prepareOrExit } = require('./setup.cjs');
const { threadPoolSize } = require('./thread-pool.cjs');

/**
 * Sets up what is missing and runs a built program in this very process, so that signals reach the program itself.
 *
 * Signatures run on libuv's thread pool, which reads its size when it is first used: so it is set here, and nothing
 * before this line may use the pool (only synchronous calls).
 *
 * @param {string} program its path in `dist/`
 */
function launch(program) {
  prepareOrExit();
  keepCompiledCode(path.join(ROOT, 'node_modules'));
  endWithNpm();
  process.env.UV_THREADPOOL_SIZE ??= threadPoolSize();
  const file = path.join(ROOT, 'dist', program);
  process.argv[1] = file;
  import(pathToFileURL(file).href).catch((error) => {
    console.error(error);
    process.exit(1);
  });
}

/**
 * From Node 22.8 on: keeps compiled code beside the packages that it comes from, so that a start takes less. Only where
 * this account could write those packages as well: else whoever got into the service once could leave something there
 * that later starts run.
 */
function keepCompiledCode(packages) {
  try {
    fs.accessSync(packages, fs.constants.W_OK);
  } catch {
    return;
  }
  enableCompileCache?.(path.join(packages, '.cache', 'agentidp'));
}

module.exports = { launch };
