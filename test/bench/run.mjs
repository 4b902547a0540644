// npm run bench [-- SECTION…] [--quick] [--rounds N] [--seconds N] [--warm-up SECONDS] [--scale X] [--minutes N] [--wrk]
//
// Measures the service as it is shipped: guards, validation, log lines and metrics are on. Each section starts its own
// PostgreSQL, prints a table and writes it to test/bench/results/. Sections: rivals (the only one unless named), others,
// reads, alone, quota, workers, start, memory, growth, profile, all.
import path from 'node:path';
import { parseArgs } from 'node:util';
import { report } from './report.mjs';
import { stopAll } from './service.mjs';
import { alone } from './sections/alone.mjs';
import { growth } from './sections/growth.mjs';
import { memory } from './sections/memory.mjs';
import { others } from './sections/others.mjs';
import { profile } from './sections/profile.mjs';
import { quota } from './sections/quota.mjs';
import { reads } from './sections/reads.mjs';
import { rivals } from './sections/rivals.mjs';
import { start } from './sections/start.mjs';
import { workers } from './sections/workers.mjs';
import { isWrkThere } from './wrk.mjs';

const SECTIONS = { rivals, others, reads, alone, quota, workers, start, memory, growth, profile };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    'warm-up': { type: 'string' },
    scale: { type: 'string', default: '0.01' },
    minutes: { type: 'string', default: '10' },
    wrk: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
  },
});
const { quick } = values;
const options = {
  quick,
  rounds: Number(values.rounds ?? (quick ? 2 : 5)),
  seconds: Number(values.seconds ?? (quick ? 3 : 8)),
  // Until the code is compiled for good.
  warmUp: Number(values['warm-up'] ?? (quick ? 3 : 6)),
  scale: Number(values.scale),
  minutes: Number(values.minutes),
  wrk: values.wrk,
};
const named = [...positionals, ...(values.profile ? ['profile'] : [])];
const names = named.length === 0 ? ['rivals'] : named.includes('all') ? Object.keys(SECTIONS) : named;
const unknown = names.filter((name) => !(name in SECTIONS));
if (unknown.length > 0) {
  console.error(`no such section: ${unknown.join(', ')}. There are ${Object.keys(SECTIONS).join(', ')} and all.`);
  process.exit(2);
}
if (values.wrk && !isWrkThere()) {
  console.error('there is no wrk on the PATH.');
  process.exit(2);
}
try {
  for (const name of names) {
    const section = await SECTIONS[name](options);
    report(path.join(import.meta.dirname, 'results'), values.wrk ? { ...section, name: `${name}-wrk` } : section);
  }
} finally {
  await stopAll();
}
