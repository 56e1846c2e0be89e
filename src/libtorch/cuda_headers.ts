/** CUDA's headers and libraries for the CUDA variant: the pip packages beside torch, else a toolkit. */
import { spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { InstallError } from '../errors.js';
import { cacheDir } from '../io/cache_dir.js';
import { ensureFolder } from './cache.js';
import { findPython } from './fetch.js';
import type { Libtorch } from './inspect.js';
import { nvidiaFolders } from './libraries.js';

type Env = NodeJS.ProcessEnv;

/** A header of each package that libtorch's CUDA headers include, with the pip package that brings it. */
const HEADERS: [header: string, pip: string][] = [
  ['cuda_runtime_api.h', 'nvidia-cuda-runtime'],
  // cuda_runtime.h includes crt/host_defines.h, which is not among torch's requirements.
  ['crt/host_defines.h', 'nvidia-cuda-crt'],
  ['cublas_v2.h', 'nvidia-cublas'],
  ['cusparse.h', 'nvidia-cusparse'],
  ['cusolverDn.h', 'nvidia-cusolver'],
];

/** Where the package nvidia-cuda-crt is put when it is not beside torch. */
function crtFolder(libtorch: Libtorch, env: Env): string {
  return join(cacheDir(env.FORNAX_CACHE), `cuda-crt-${libtorch.cuda ?? 'unknown'}`);
}

function folders(libtorch: Libtorch, env: Env): { include: string[]; lib: string[] } {
  const include = nvidiaFolders(libtorch.root, 'include');
  const lib = nvidiaFolders(libtorch.root, 'lib');
  for (const toolkit of [env.CUDA_HOME, env.CUDA_PATH, '/usr/local/cuda']) {
    if (!toolkit || !existsSync(join(toolkit, 'include', 'cuda_runtime_api.h'))) continue;
    include.push(join(toolkit, 'include'));
    lib.push(...['lib64', 'lib'].map((name) => join(toolkit, name)).filter((dir) => existsSync(dir)));
  }
  include.push(...nvidiaFolders(join(crtFolder(libtorch, env), 'torch'), 'include'));
  return { include, lib };
}

const has = (include: string[], header: string): boolean =>
  include.some((dir) => existsSync(join(dir, header)));

/**
 * @throws InstallError if a header that libtorch's CUDA headers include is nowhere
 */
export function cudaFolders(
  libtorch: Libtorch,
  env: Env = process.env,
): { include: string[]; lib: string[] } {
  const found = folders(libtorch, env);
  for (const [header, pip] of HEADERS) {
    if (has(found.include, header)) continue;
    throw new InstallError({
      what: `CUDA's header ${header} is missing, so the CUDA variant cannot be built`,
      where: found.include.join(', ') || 'no folder with CUDA headers was found',
      fix: `python3 -m pip install '${requirement(libtorch, pip)}' beside torch, or set CUDA_HOME, or build with --cpu`,
    });
  }
  return found;
}

function requirement(libtorch: Libtorch, pip: string): string {
  return libtorch.cuda ? `${pip}==${libtorch.cuda}.*` : pip;
}

/**
 * A torch installed by pip has all CUDA headers but those of nvidia-cuda-crt (under 1 MB): puts them into the
 * cache folder if nothing else is missing.
 * @throws InstallError if pip cannot get them
 */
export function completeCudaHeaders(
  libtorch: Libtorch,
  log: (line: string) => void,
  env: Env = process.env,
): void {
  const { include } = folders(libtorch, env);
  const missing = HEADERS.filter(([header]) => !has(include, header)).map(([, pip]) => pip);
  if (missing.length !== 1 || missing[0] !== 'nvidia-cuda-crt') return;
  const wanted = requirement(libtorch, 'nvidia-cuda-crt');
  log(`fetching the headers of ${wanted}`);
  const folder = crtFolder(libtorch, env);
  const fresh = `${folder}.${process.pid}`;
  ensureFolder(dirname(folder));
  const pip = [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--no-deps',
    '--only-binary=:all:',
    '--target',
    fresh,
    wanted,
  ];
  const result = spawnSync(findPython(env), pip, { env: { ...env, PIP_USER: '0' }, encoding: 'utf8' });
  if (result.status !== 0) {
    rmSync(fresh, { recursive: true, force: true });
    throw new InstallError({
      what: `pip could not get ${wanted}, whose headers the CUDA variant needs: ${result.stderr.trim()}`,
      fix: 'check the network and pip config list, or set CUDA_HOME to a CUDA toolkit, or build with --cpu',
    });
  }
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
}
