'use strict';
/*
 * Asks the registry whether a package that is installed to serve has a known weakness of high or critical severity.
 * Exits with 1 where one has. Not every registry answers that: then it says so and exits with 0, since nothing was learned.
 */
const { spawnSync } = require('node:child_process');

const BLOCKING = ['high', 'critical'];

/**
 * What an answer of `npm audit --json` means.
 *
 * @param {string} output
 * @returns {{ code: number, text: string }}
 */
function verdictOf(output) {
  let report;
  try {
    report = JSON.parse(output);
  } catch {
    return { code: 0, text: 'Not audited: npm gave no report.' };
  }
  const counts = report?.metadata?.vulnerabilities;
  if (typeof counts !== 'object' || counts === null) {
    const reason = String(report?.message ?? report?.error?.summary ?? 'no reason given').slice(0, 200);
    return { code: 0, text: `Not audited: the registry does not answer (${reason}).` };
  }
  const found = BLOCKING.filter((severity) => counts[severity] > 0);
  if (found.length === 0) return { code: 0, text: 'Audited: no known weakness of high or critical severity.' };
  const named = Object.entries(report.vulnerabilities ?? {})
    .filter(([, { severity }]) => BLOCKING.includes(severity))
    .map(([name, { severity }]) => `${name} (${severity})`);
  return { code: 1, text: `Audited: known weaknesses in ${named.join(', ')}.` };
}

if (require.main === module) {
  const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--json', '--fetch-retries=1'], {
    encoding: 'utf8',
    shell: process.platform === 'win32',
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  const { code, text } = verdictOf(stdout ?? '');
  console.log(text);
  process.exit(code);
}

module.exports = { verdictOf };
