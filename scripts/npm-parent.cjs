'use strict';
const fs = require('node:fs');

const POLL_MS = 200;

/**
 * Ends this process with SIGTERM when the npm that runs it is gone. npm hands a SIGTERM on to the shell it started us
 * by, and most shells die of it without telling us: `kill` on `npm start` would leave the service behind.
 */
function endWithNpm() {
  if (process.env.npm_lifecycle_event === undefined || process.platform === 'win32') return;
  const parent = process.ppid;
  const shell = shellParent(parent);
  const timer = setInterval(() => {
    if (process.ppid === parent && (shell === null || shellParent(parent) === shell)) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, POLL_MS);
  timer.unref();
}

/** The parent of the process `pid` if that is a shell which runs one command; else, or where unknown, `null`. */
function shellParent(pid) {
  try {
    if (fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')[1] !== '-c') return null;
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return null;
  }
}

module.exports = { endWithNpm };
