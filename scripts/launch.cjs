'use strict';
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
  // From Node 22.8 on compiled code is kept, beside the packages that it comes from: only who writes those can write it.
  enableCompileCache?.(path.join(ROOT, 'node_modules', '.cache', 'agentidp'));
  endWithNpm();
  process.env.UV_THREADPOOL_SIZE ??= threadPoolSize();
  const file = path.join(ROOT, 'dist', program);
  process.argv[1] = file;
  import(pathToFileURL(file).href).catch((error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = { launch };
