/**
 * Finds libtorch without fetching anything, in the order: FORNAX_LIBTORCH, LIBTORCH → (the place the addon was
 * built against) → Fornax's cache → an npm package that holds the libraries → the torch of the active Python.
 * FORNAX_LIBTORCH_SOURCE=fetch leaves out the last two, so that what is not in the cache is fetched: for machines
 * whose own torch shall not be touched, and for CI, where fetching is to be tested.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { FornaxError, InstallError } from '../errors.js';
import { cacheDir } from '../io/cache_dir.js';
import { TORCH_PINNED } from '../version.js';
import { currentHost, type Host } from './host.js';
import { inspectLibtorch, type Libtorch } from './inspect.js';
import { isComplete } from './manifest.js';

export type Variant = 'cpu' | 'cuda';

export interface Attempt {
  /** Where it was looked for: `FORNAX_LIBTORCH`, `cache`. */
  source: string;
  /** The folder, if there was one. */
  path: string | undefined;
  /** Why it was not taken. */
  reason: string;
  fix: string | undefined;
}

export interface Found {
  source: string;
  libtorch: Libtorch;
}

export interface LocateOptions {
  /** `build` needs headers; `run` needs the version that the addon was built against. */
  purpose: 'build' | 'run';
  /** Exact version, for `run`. */
  version?: string;
  /** Whether libtorch's CUDA libraries are needed. */
  cuda?: boolean;
  /** The place an addon built here was linked against. */
  builtAgainst?: string | null;
  env?: NodeJS.ProcessEnv;
  host?: Host;
  /** Replaces the question put to Python, for tests. */
  pythonTorch?: () => string | undefined;
}

/** The folder in the cache into which libtorch of this variant is fetched; `torch/` and `nvidia/` lie in it. */
export function cacheFolder(
  variant: Variant,
  env: NodeJS.ProcessEnv = process.env,
  host = currentHost(),
): string {
  return join(cacheDir(env.FORNAX_CACHE), 'libtorch', `${TORCH_PINNED}-${variant}-linux-${host.arch}`);
}

/** Whether a `torch/` folder is one that Fornax fetched into its cache. */
export function isFetched(torch: string, env: NodeJS.ProcessEnv = process.env): boolean {
  return dirname(dirname(torch)) === join(cacheDir(env.FORNAX_CACHE), 'libtorch');
}

/** Where the active Python would import torch from, without importing it. */
export function pythonTorch(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const code =
    'import importlib.util as u; s = u.find_spec("torch"); print(s.submodule_search_locations[0] if s else "")';
  const answer = spawnSync(env.FORNAX_PYTHON ?? 'python3', ['-c', code], {
    encoding: 'utf8',
    env,
    timeout: 20_000,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return answer.status === 0 ? answer.stdout.trim() || undefined : undefined;
}

function npmPackage(host: Host): string | undefined {
  const require = createRequire(import.meta.url);
  for (const name of [`@fornax/libtorch-cuda-linux-${host.arch}`, `@fornax/libtorch-linux-${host.arch}`]) {
    try {
      return join(dirname(require.resolve(`${name}/package.json`)), 'torch');
    } catch {
      // Optional: not installed.
    }
  }
  return undefined;
}

function fetchedOnly(env: NodeJS.ProcessEnv): boolean {
  const source = env.FORNAX_LIBTORCH_SOURCE;
  if (!source || source === 'auto') return false;
  if (source === 'fetch') return true;
  throw new InstallError({
    what: `FORNAX_LIBTORCH_SOURCE is ${JSON.stringify(source)}; it may be fetch or auto`,
    fix: 'unset it, or set it to fetch (use no libtorch but the one in the cache, which is fetched if missing)',
  });
}

/**
 * Yields what is found, in order, and records in `attempts` why the others were not taken. Lazy: Python is asked
 * only when nothing before it was good enough.
 * @throws InstallError if FORNAX_LIBTORCH or LIBTORCH is set and what it names cannot be used: a user who names a
 *   place wants that one, not a silent other
 */
export function* libtorchCandidates(options: LocateOptions, attempts: Attempt[]): Generator<Found> {
  const env = options.env ?? process.env;
  const host = options.host ?? currentHost();

  for (const name of ['FORNAX_LIBTORCH', 'LIBTORCH'] as const) {
    const folder = env[name];
    if (!folder) continue;
    let libtorch: Libtorch;
    try {
      libtorch = checkFit(folder, options, host);
    } catch (error) {
      if (!(error instanceof FornaxError)) throw error;
      throw new InstallError({
        what: `${name} is set, but what it names cannot be used: ${error.what}`,
        where: error.where,
        fix: error.fix,
        cause: error,
      });
    }
    yield { source: name, libtorch };
    return;
  }

  const cached = (variant: Variant) => () => {
    const folder = cacheFolder(variant, env, host);
    // A half-written cache counts as absent here; fetching repairs it.
    return isComplete(folder) ? join(folder, 'torch') : undefined;
  };
  const places: [string, () => string | undefined][] = [
    ['the libtorch that the addon was built against', () => options.builtAgainst ?? undefined],
    ["Fornax's cache (cuda)", cached('cuda')],
    ...(options.cuda ? [] : [["Fornax's cache (cpu)", cached('cpu')] as [string, () => string | undefined]]),
    ...(fetchedOnly(env)
      ? []
      : ([
          ['an npm package with libtorch', () => npmPackage(host)],
          ["the active Python's torch", options.pythonTorch ?? (() => pythonTorch(env))],
        ] as [string, () => string | undefined][])),
  ];
  for (const [source, place] of places) {
    const folder = place();
    if (folder === undefined) {
      attempts.push({ source, path: undefined, reason: 'not there', fix: undefined });
      continue;
    }
    let libtorch: Libtorch;
    try {
      libtorch = checkFit(folder, options, host);
    } catch (error) {
      if (!(error instanceof FornaxError)) throw error;
      attempts.push({ source, path: folder, reason: error.what, fix: error.fix });
      continue;
    }
    yield { source, libtorch };
  }
}

/** The first that fits. @throws as `libtorchCandidates` */
export function locateLibtorch(options: LocateOptions): { found: Found | undefined; attempts: Attempt[] } {
  const attempts: Attempt[] = [];
  for (const found of libtorchCandidates(options, attempts)) return { found, attempts };
  return { found: undefined, attempts };
}

/** Inspects a folder and compares it with what is asked for. */
function checkFit(folder: string, options: LocateOptions, host: Host): Libtorch {
  const libtorch = inspectLibtorch(folder, { headers: options.purpose === 'build', host });
  if (options.version && libtorch.version !== options.version) {
    throw new InstallError({
      what: `libtorch ${libtorch.version} is there, but the addon was built against ${options.version}`,
      where: libtorch.root,
      fix: `rebuild the addon for it: npx fornax build --libtorch ${libtorch.root}`,
    });
  }
  if (options.cuda && !libtorch.hasCuda) {
    throw new InstallError({
      what: 'this libtorch is CPU-only, but CUDA is asked for (or the addon is the CUDA variant)',
      where: libtorch.root,
      fix: 'use a CUDA build of torch, or rebuild for the CPU: npx fornax build --cpu',
    });
  }
  return libtorch;
}
