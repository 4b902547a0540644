import fs from 'node:fs';

/**
 * The processor time that a service and the PostgreSQL servers under it have used so far, in seconds: other work on the
 * machine changes it little. Apart: JavaScript's own thread, the thread pool (signatures), V8's helpers (garbage
 * collection, compilation), PostgreSQL.
 *
 * @param {number} pid the process of the service
 * @param {number} poolSize its threads for signatures: those that were made last
 * @returns {{ script: number, pool: number, helpers: number, postgres: number } | null} null where there is no /proc
 */
export function processorTime(pid, poolSize) {
  if (process.platform !== 'linux') return null;
  const processes = descendants(pid);
  const sum = { script: 0, pool: 0, helpers: 0, postgres: 0 };
  for (const { pid: one, program } of processes) {
    const threads = fs.readdirSync(`/proc/${one}/task`).map(Number);
    threads.sort((a, b) => a - b);
    for (const [index, thread] of threads.entries()) {
      const seconds = Number(read(`/proc/${one}/task/${thread}/schedstat`).split(' ')[0]) / 1e9;
      if (program === 'postgres') sum.postgres += seconds;
      else if (index === 0) sum.script += seconds;
      else if (index >= threads.length - poolSize) sum.pool += seconds;
      else sum.helpers += seconds;
    }
  }
  return sum;
}

/** The resident memory of a process and its workers, PostgreSQL left out, in bytes. */
export function residentMemory(pid) {
  return descendants(pid)
    .filter(({ program }) => program !== 'postgres')
    .reduce(
      (sum, { pid: one }) => sum + Number(/VmRSS:\s+(\d+)/.exec(read(`/proc/${one}/status`))?.[1] ?? 0) * 1024,
      0,
    );
}

/** A process and all that it started; PostgreSQL, which detaches itself, is known by its folder. */
function descendants(pid) {
  const all = fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => {
      const stat = read(`/proc/${name}/stat`);
      const end = stat.lastIndexOf(')');
      const parent = Number(stat.slice(end + 4).split(' ', 1)[0]);
      return { pid: Number(name), parent, program: stat.slice(stat.indexOf('(') + 1, end) };
    });
  const folder = /(?:^|\0)DATA_DIR=([^\0]+)/.exec(read(`/proc/${pid}/environ`))?.[1];
  const found = new Set([pid]);
  for (const one of all) {
    if (folder !== undefined && one.program === 'postgres' && read(`/proc/${one.pid}/cmdline`).includes(folder))
      found.add(one.pid);
  }
  for (let before = 0; before < found.size;) {
    before = found.size;
    for (const one of all) if (found.has(one.parent)) found.add(one.pid);
  }
  return all.filter((one) => found.has(one.pid));
}

function read(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
