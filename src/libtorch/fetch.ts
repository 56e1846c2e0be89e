/** Fetches libtorch into the cache, once, whatever happens in between: see scripts/fetch_libtorch.py for the how. */
import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { AbortedError, InstallError } from '../errors.js';
import { cacheDir } from '../io/cache_dir.js';
import { withLock } from '../io/lock.js';
import { packageRoot } from '../native/package_root.js';
import { TORCH_PINNED } from '../version.js';
import { ensureFolder, freeSpace, requireSpace } from './cache.js';
import { checkHost, currentHost } from './host.js';
import { inspectLibtorch, type Libtorch } from './inspect.js';
import { cacheFolder, type Variant } from './locate.js';
import { isComplete, MANIFEST, type Manifest } from './manifest.js';

/** Room for what is downloaded and unpacked, with some to spare. */
const SPACE: Record<Variant, number> = { cpu: 0.9 * 2 ** 30, cuda: 9 * 2 ** 30 };

const ELSEWHERE = 'or put libtorch in place yourself and set FORNAX_LIBTORCH to it';

export interface FetchOptions {
  variant: Variant;
  log: (line: string) => void;
  env?: NodeJS.ProcessEnv;
  /** Replaces the question to the file system, for tests. */
  free?: (path: string) => number;
}

/**
 * Interrupted, it goes on where it stopped when called again; called twice at once, one waits for the other.
 * @throws InstallError for: no Python, no pip, no network, no space, a version that the index does not have
 */
export async function fetchLibtorch(options: FetchOptions): Promise<Libtorch> {
  checkHost();
  const env = options.env ?? process.env;
  const folder = cacheFolder(options.variant, env);
  ensureFolder(join(folder, '..'));
  return withLock(
    `${folder}.lock`,
    async () => {
      if (isComplete(folder, { thorough: true }))
        return inspectLibtorch(join(folder, 'torch'), { headers: true });
      if (existsSync(folder)) options.log(`the libtorch in ${folder} is incomplete: fetching it again`);
      requireSpace(folder, SPACE[options.variant], 'libtorch', (options.free ?? freeSpace)(folder));
      const python = findPython(env);
      // A folder left by a process that was killed: its downloads are in .partial, this is unpacked halfway.
      const fresh = `${folder}.new`;
      rmSync(fresh, { recursive: true, force: true });
      options.log(
        `fetching libtorch ${TORCH_PINNED} for ${options.variant === 'cuda' ? 'NVIDIA GPUs' : 'the CPU'}, once, into ${folder}`,
      );
      const partial = `${folder}.partial`;
      await runFetch(python, { ...options, env, fresh, partial });
      commit(fresh, folder, options.variant);
      rmSync(partial, { recursive: true, force: true });
      return inspectLibtorch(join(folder, 'torch'), { headers: true });
    },
    { onWait: (owner) => options.log(`waiting for ${owner}, which is fetching libtorch`) },
  );
}

/** Python is needed to fetch, and only for that. */
export function findPython(env: NodeJS.ProcessEnv): string {
  const python = env.FORNAX_PYTHON ?? 'python3';
  const code = 'import sys; sys.exit(sys.version_info < (3, 10))';
  const answer = spawnSync(python, ['-c', code], { env, stdio: 'ignore', timeout: 20_000 });
  if (answer.status === 0) return python;
  throw new InstallError({
    what:
      answer.status === 1
        ? `${python} is older than 3.10, and libtorch is fetched with pip 26, which needs that`
        : `libtorch is not installed, and to fetch it Python 3 with pip is needed: ${python} does not run`,
    fix: `sudo apt-get install -y python3 python3-pip (or set FORNAX_PYTHON to another), ${ELSEWHERE}`,
  });
}

interface Message {
  log?: string;
  progress?: number;
  total?: number;
  done?: boolean;
  error?: string;
  what?: string;
}

async function runFetch(
  python: string,
  options: FetchOptions & { env: NodeJS.ProcessEnv; fresh: string; partial: string },
): Promise<void> {
  const job = {
    version: TORCH_PINNED,
    variant: options.variant,
    arch: currentHost().arch,
    target: options.fresh,
    partial: options.partial,
    tools: join(cacheDir(options.env.FORNAX_CACHE), 'tools'),
  };
  const script = join(packageRoot, 'scripts', 'fetch_libtorch.py');
  const child = spawn(python, ['-B', '-u', script, JSON.stringify(job)], {
    env: options.env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const show = progressLine(options.log);
  let last: Message = {};
  const exited = new Promise<number | null>((done, failed) => {
    child.on('error', failed);
    child.on('close', (code) => done(code));
  });
  for await (const line of createInterface({ input: child.stdout })) {
    try {
      last = JSON.parse(line) as Message;
    } catch {
      options.log(line); // not ours: a library that prints
      continue;
    }
    if (last.log) options.log(last.log);
    if (last.total) show(last.progress ?? 0, last.total);
  }
  const code = await exited;
  if (code === 0 && last.done) return;
  throw fetchProblem(last.error ?? 'unknown', last.what ?? `Python ended with code ${code}`);
}

/** One line that grows on a terminal; a line every tenth otherwise. */
function progressLine(log: (line: string) => void): (done: number, total: number) => void {
  const mb = (bytes: number) => (bytes / 1e6).toFixed(0);
  let tenth = -1;
  return (done, total) => {
    if (process.stderr.isTTY) {
      process.stderr.write(`\r  ${mb(done)} of ${mb(total)} MB${done >= total ? '\n' : ''}`);
      return;
    }
    const now = Math.floor((10 * done) / total);
    if (now !== tenth) log(`${mb(done)} of ${mb(total)} MB`);
    tenth = now;
  };
}

/** The script's kinds of failure, each with its remedy. */
export function fetchProblem(kind: string, detail: string): InstallError | AbortedError {
  const network =
    "check the network and pip's settings (pip config list; PIP_INDEX_URL, PIP_CERT, HTTPS_PROXY)";
  switch (kind) {
    case 'no-pip':
      return new InstallError({
        what: `libtorch is fetched with pip, which is missing: ${detail}`,
        fix: `sudo apt-get install -y python3-pip (or: python3 -m ensurepip), ${ELSEWHERE}`,
      });
    case 'network':
      return new InstallError({
        what: `the package index cannot be reached to fetch libtorch: ${detail}`,
        fix: `${network} and try again (what was fetched is kept), ${ELSEWHERE}`,
      });
    case 'no-version':
      return new InstallError({
        what: `the package index offers no torch ${TORCH_PINNED} for this machine: ${detail}`,
        fix: `${network}, ${ELSEWHERE}`,
      });
    case 'no-space':
      return new InstallError({
        what: `no space left while fetching libtorch: ${detail}`,
        fix: 'free some space, or set FORNAX_CACHE to a folder on a larger disk, and try again (what was fetched is kept)',
      });
    case 'damaged':
      return new InstallError({
        what: `what the package index delivered is damaged: ${detail}`,
        fix: `try again; if it stays, a proxy or mirror in between changes files: ${network}`,
      });
    case 'glibc':
      return new InstallError({ what: detail, fix: 'use Debian 12, Ubuntu 22.04 or newer' });
    case 'stopped':
      return new AbortedError({
        what: 'fetching libtorch was interrupted',
        fix: 'run the command again: it goes on',
      });
    default:
      return new InstallError({
        what: `libtorch could not be fetched: ${detail}`,
        fix: `${network}, ${ELSEWHERE}`,
      });
  }
}

/** Lists the files, makes sure that they are on the disk, and puts the folder in its place by one rename. */
export function commit(fresh: string, folder: string, variant: Variant): void {
  const files: Record<string, number> = {};
  for (const entry of readdirSync(fresh, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    files[relative(fresh, path)] = statSync(path).size;
    if (/\.so(\.\d+)*$/.test(entry.name)) sync(path);
  }
  const manifest: Manifest = { version: TORCH_PINNED, variant, files };
  writeFileSync(join(fresh, MANIFEST), JSON.stringify(manifest));
  sync(join(fresh, MANIFEST));
  const old = `${folder}.old`;
  rmSync(old, { recursive: true, force: true });
  if (existsSync(folder)) renameSync(folder, old);
  renameSync(fresh, folder);
  sync(join(folder, '..'));
  rmSync(old, { recursive: true, force: true });
}

function sync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
