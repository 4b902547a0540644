'use strict';
const { threadPoolSize } = require('../scripts/thread-pool.cjs');

/*
 * Runs the built service: what `npm start` does, without looking whether something is to be installed or built.
 *
 * Signatures run on libuv's thread pool, which reads its size when it is first used: so it is set here, and nothing
 * before this line may use the pool.
 */
process.env.UV_THREADPOOL_SIZE ??= threadPoolSize();

import('../dist/src/main.js').catch((error) => {
  console.error(error);
  process.exit(1);
});
