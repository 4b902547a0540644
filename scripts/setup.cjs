'use strict';
/*
 * What has to be done before the service or its tests can run: the right Node, the packages, the build. Each step is
 * skipped when it has been done for the files as they are now. Plain Node without packages, because it runs before there
 * are any; synchronous, because the thread pool must not be used before its size is set (see start.cjs).
 */
const { spawnSync } = require('node:child_process');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const ROOT = path.resolve(__dirname, '..');
const OLDEST_NODE = [20, 19];
const INSTALL_STAMP = path.join(ROOT, 'node_modules', '.agentidp-install');
const BUILD_STAMP = path.join(ROOT, 'dist', '.agentidp-build');

/** Ends the process unless this Node is recent enough. */
function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])) return;
  console.error(
    `SentryAgent AgentIdP needs Node.js ${OLDEST_NODE.join('.')} or later; this is ${process.versions.node}.`,
  );
  process.exit(1);
}

/**
 * Installs and builds what is missing or out of date; with `rebuild` builds in any case. Several processes that begin at
 * once do it one after another.
 */
function prepare(rebuild) {
  checkNode();
  if (!rebuild && isInstalled() && isBuilt()) return;
  const unlock = lock();
  try {
    if (!isInstalled()) install();
    if (rebuild || !isBuilt()) build();
  } finally {
    unlock();
  }
}

/** Whether node_modules holds what package-lock.json asks for, by our stamp or by npm's own record. */
function isInstalled() {
  const lockFile = path.join(ROOT, 'package-lock.json');
  if (readOrNull(INSTALL_STAMP) === hashOf([lockFile])) return true;
  const npmRecord = fs.statSync(path.join(ROOT, 'node_modules', '.package-lock.json'), { throwIfNoEntry: false });
  return npmRecord !== undefined && npmRecord.mtimeMs >= fs.statSync(lockFile).mtimeMs;
}

function install() {
  console.error('Installing packages (npm ci) ...');
  // NODE_ENV=production must not leave out the compiler.
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error', '--include=dev', '--include=optional'];
  const npm = process.env.npm_execpath;
  if (npm !== undefined && /npm-cli\.[cm]?js$/.test(npm)) run(process.execPath, [npm, ...args]);
  else run(process.platform === 'win32' ? 'npm.cmd' : 'npm', args, { shell: process.platform === 'win32' });
  fs.writeFileSync(INSTALL_STAMP, hashOf([path.join(ROOT, 'package-lock.json')]));
}

function isBuilt() {
  return readOrNull(BUILD_STAMP) === sourceHash();
}

function build() {
  console.error('Building ...');
  const hash = sourceHash();
  const cli = path.join(ROOT, 'node_modules', '@nestjs', 'cli');
  const { bin } = JSON.parse(fs.readFileSync(path.join(cli, 'package.json'), 'utf8'));
  run(process.execPath, [path.join(cli, typeof bin === 'string' ? bin : bin.nest), 'build']);
  fs.writeFileSync(BUILD_STAMP, hash);
}

/** Runs a program in the project's folder; ends this process with its code if it fails. */
function run(file, args, options = {}) {
  const { status, error } = spawnSync(file, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'], ...options });
  if (error !== undefined) console.error(`Cannot run ${file}: ${error.message}`);
  if (status !== 0) throw new SetupFailed(`${path.basename(file)} ${args.join(' ')} failed.`, status ?? 1);
}

/** A step failed and has said why. */
class SetupFailed extends Error {
  constructor(message, exitCode) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The hash over everything that the build reads: names, sizes and contents. */
function sourceHash() {
  const files = fs
    .readdirSync(path.join(ROOT, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.spec.ts'))
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
  const top = fs
    .readdirSync(ROOT)
    .filter((name) => /^(ormconfig\.ts|tsconfig.*\.json|nest-cli\.json|package-lock\.json)$/.test(name))
    .map((name) => path.join(ROOT, name));
  return hashOf([...files, ...top]);
}

function hashOf(files) {
  const hash = createHash('sha256');
  for (const file of files.sort()) {
    const content = fs.readFileSync(file);
    hash.update(`${path.relative(ROOT, file)}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

function readOrNull(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

/** Waits until no other process sets up this folder, and keeps others out until the returned function is called. */
function lock() {
  const name = createHash('sha256').update(ROOT).digest('hex').slice(0, 16);
  const file = path.join(os.tmpdir(), `agentidp-setup-${process.getuid?.() ?? 'user'}-${name}.lock`);
  for (;;) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx', mode: 0o600 });
      return () => fs.rmSync(file, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const holder = Number(readOrNull(file));
    if (holder > 0 && !isAlive(holder)) fs.rmSync(file, { force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** `prepare()` for the scripts that people start: a failed step ends the process with its code and no stack. */
function prepareOrExit({ rebuild = false } = {}) {
  try {
    prepare(rebuild);
  } catch (error) {
    if (!(error instanceof SetupFailed)) throw error;
    console.error(error.message);
    process.exit(error.exitCode);
  }
}

module.exports = { ROOT, prepareOrExit };

// npm run build
if (require.main === module) prepareOrExit({ rebuild: true });
