/**
 * Prepares whatever is missing, from a fresh clone on: checks Node and the system's tools, installs npm packages,
 * compiles TypeScript, finds or fetches libtorch and builds the addon. Uses Node's own modules until the
 * packages are there. Does nothing, quickly, when nothing is to do.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

/** A problem that the user can solve: printed without a stack. */
export class BootstrapError extends Error {}

const say = (line) => process.stderr.write(`fornax: ${line}\n`);

/** Signals that reach only this process and must reach the command, which has a checkpoint to write. */
const FORWARDED = ['SIGTERM', 'SIGHUP'];

/**
 * Runs a command with its output visible and outlives it, whatever signal comes: a terminal sends Ctrl-C to
 * both, so it is only ignored here; the others are passed on.
 * @returns {Promise<number>} the exit code, 128 + the signal's number where one ended the command
 */
export function run(command, args, options = {}) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { cwd: root, stdio: 'inherit', ...options });
    const ignore = () => undefined;
    const forward = (signal) => child.kill(signal);
    process.on('SIGINT', ignore);
    for (const signal of FORWARDED) process.on(signal, forward);
    const release = () => {
      process.off('SIGINT', ignore);
      for (const signal of FORWARDED) process.off(signal, forward);
    };
    child.on('error', (error) => {
      release();
      failed(error);
    });
    child.on('exit', (code, signal) => {
      release();
      done(signal ? 128 + constants.signals[signal] : (code ?? 1));
    });
  });
}

export function checkNode(version = process.versions.node) {
  const [major, minor] = version.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  throw new BootstrapError(
    `Node.js ${version} is too old: 20.19 or newer is needed.\n` +
      '  fix: install a current LTS release, for example with nvm: nvm install 22',
  );
}

/**
 * The Debian packages behind the commands that are missing.
 * @param {(command: string, args: string[]) => boolean} works
 */
export function missingPackages(works) {
  const missing = [];
  if (!works('python3', ['--version'])) missing.push('python3', 'python3-pip', 'python3-venv');
  else if (!works('python3', ['-m', 'pip', '--version'])) missing.push('python3-pip');
  if (!works('cmake', ['--version'])) missing.push('cmake');
  if (!['c++', 'g++', 'clang++', process.env.CXX].some((name) => name && works(name, ['--version'])))
    missing.push('g++');
  if (!works('ninja', ['--version']) && !works('make', ['--version'])) missing.push('make', 'ninja-build');
  return missing;
}

function works(command, args) {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 30_000 }).status === 0;
}

/** @param {{python: boolean}} need Python is needed only where libtorch is to be fetched. */
function checkSystem(need) {
  const missing = missingPackages(works).filter((name) => need.python || !name.startsWith('python3'));
  if (missing.length === 0) return;
  throw new BootstrapError(
    `This system lacks: ${missing.join(', ')}.\n  fix: sudo apt-get update && sudo apt-get install -y ${missing.join(' ')}`,
  );
}

/** npm writes node_modules/.package-lock.json at the end of every install. */
function packagesAreCurrent() {
  const installed = statSync(join(root, 'node_modules/.package-lock.json'), { throwIfNoEntry: false });
  const lock = statSync(join(root, 'package-lock.json'), { throwIfNoEntry: false });
  if (!installed || !lock) return false;
  if (installed.mtimeMs >= lock.mtimeMs) return true;
  return samePackages();
}

/** A checkout gives the lock a new time without changing it, so compare what it asks for with what is there. */
function samePackages() {
  const read = (file) => JSON.parse(readFileSync(join(root, file), 'utf8')).packages;
  try {
    const have = read('node_modules/.package-lock.json');
    const want = Object.entries(read('package-lock.json')).filter(([path]) => path !== '');
    return want.every(([path, entry]) => entry.optional || have[path]?.version === entry.version);
  } catch {
    return false;
  }
}

async function installPackages() {
  if (packagesAreCurrent()) return;
  say('installing npm packages');
  // Scripts of dependencies are not needed, and this package's own would bootstrap a second time.
  const npm = process.env.npm_execpath?.endsWith('.js')
    ? [process.execPath, process.env.npm_execpath]
    : ['npm'];
  const args = [...npm.slice(1), 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--include=dev'];
  const code = await run(npm[0], args);
  if (code > 128) process.exit(code); // stopped by a signal: nothing failed
  if (code !== 0) {
    throw new BootstrapError(
      "npm ci failed; its own message stands above.\n  fix: check the network and npm's settings (npm config list), then try again",
    );
  }
}

/** Output files whose source is gone would be run or imported although nobody can see them. */
function removeOrphans(out, source) {
  if (!existsSync(out)) return;
  for (const entry of readdirSync(out, { recursive: true })) {
    const match = /^(.*)\.(js|d\.ts|js\.map|d\.ts\.map)$/.exec(entry);
    if (!match || match[2] !== 'js') continue;
    if (existsSync(join(source, `${match[1]}.ts`))) continue;
    for (const end of ['js', 'd.ts', 'js.map', 'd.ts.map'])
      rmSync(join(out, `${match[1]}.${end}`), { force: true });
  }
}

async function compileTypeScript() {
  for (const [out, source] of [
    ['dist', 'src'],
    ['build/dev/test', 'test'],
    ['build/dev/bench', 'bench'],
  ]) {
    removeOrphans(join(root, out), join(root, source));
  }
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  if (!existsSync(tsc)) {
    throw new BootstrapError(
      'the TypeScript compiler is not installed (npm was told to omit development packages).\n' +
        '  fix: npm install --include=dev',
    );
  }
  const code = await run(process.execPath, [tsc, '-b', 'tsconfig.json', 'tsconfig.dev.json']);
  if (code > 128) process.exit(code);
  if (code !== 0) return new BootstrapError('the TypeScript sources have errors; they stand above.');
  return undefined;
}

async function buildNative(options) {
  const { prepareAddon } = await import('../dist/native/prepare.js');
  await prepareAddon({ ...options, log: say, checkTools: () => checkSystem({ python: false }) });
}

/**
 * @param {{addon?: boolean, packages?: boolean, keepGoing?: boolean}} [need] `addon: false` stops after TypeScript
 *   and asks for no compiler; `packages: false` takes npm's packages as they are (npm itself is installing them); `keepGoing` builds the addon even where
 *   TypeScript has errors (tsc emits all the same) and fails at the end.
 */
export async function bootstrap(need = {}) {
  checkNode();
  const fresh =
    !existsSync(join(root, 'node_modules')) && !existsSync(join(root, 'build/Release/fornax.node'));
  if (need.addon !== false && fresh) {
    checkSystem({ python: !process.env.FORNAX_LIBTORCH && !process.env.LIBTORCH });
  }
  if (need.packages !== false) await installPackages();
  const errors = await compileTypeScript();
  if (errors && !need.keepGoing) throw errors;
  if (need.addon !== false) await buildNative({});
  if (errors) throw errors;
}

/** Prints an error the way the CLI does and returns the exit code. */
export function report(error) {
  if (error instanceof BootstrapError || String(error?.code).startsWith('FORNAX_')) {
    process.stderr.write(`fornax: ${error.message}\n`);
  } else {
    process.stderr.write(`${error?.stack ?? error}\n`);
  }
  return 1;
}
