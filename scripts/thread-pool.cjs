'use strict';
const os = require('node:os');

/**
 * How many threads make signatures in one process: as many as there are cores, shared among the workers of
 * WEB_CONCURRENCY; at least two, because files and names are looked up on them as well.
 */
function threadPoolSize() {
  const cores = os.availableParallelism();
  const { WEB_CONCURRENCY: given } = process.env;
  const workers = given === 'auto' ? cores : Number(given) || 1;
  return String(Math.max(2, Math.ceil(cores / workers)));
}

module.exports = { threadPoolSize };
