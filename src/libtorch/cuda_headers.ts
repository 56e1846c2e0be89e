/** CUDA's headers and libraries for the CUDA variant: the pip packages beside torch, else a toolkit. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { InstallError } from '../errors.js';
import type { Libtorch } from './inspect.js';
import { nvidiaFolders } from './libraries.js';

/**
 * @throws InstallError if a header that libtorch's CUDA headers include is nowhere
 */
export function cudaFolders(
  libtorch: Libtorch,
  env: NodeJS.ProcessEnv = process.env,
): { include: string[]; lib: string[] } {
  const extra = env.FORNAX_CUDA_INCLUDE ? env.FORNAX_CUDA_INCLUDE.split(':') : [];
  const include = [...extra, ...nvidiaFolders(libtorch.root, 'include')];
  const lib = nvidiaFolders(libtorch.root, 'lib');
  for (const toolkit of [env.CUDA_HOME, env.CUDA_PATH, '/usr/local/cuda']) {
    if (!toolkit || !existsSync(join(toolkit, 'include', 'cuda_runtime_api.h'))) continue;
    include.push(join(toolkit, 'include'));
    lib.push(...['lib64', 'lib'].map((name) => join(toolkit, name)).filter((dir) => existsSync(dir)));
  }
  // The wheels' cuda_runtime.h includes crt/host_defines.h, which comes in a package of its own.
  for (const [header, pip] of [
    ['cuda_runtime_api.h', 'nvidia-cuda-runtime'],
    ['crt/host_defines.h', 'nvidia-cuda-crt'],
    ['cublas_v2.h', 'nvidia-cublas'],
    ['cusparse.h', 'nvidia-cusparse'],
    ['cusolverDn.h', 'nvidia-cusolver'],
  ]) {
    if (include.some((dir) => existsSync(join(dir, header!)))) continue;
    const line = libtorch.cuda ? `${pip}==${libtorch.cuda}.*` : pip;
    throw new InstallError({
      what: `CUDA's header ${header} is missing, so the CUDA variant cannot be built`,
      where: include.join(', ') || 'no folder with CUDA headers was found',
      fix: `python3 -m pip install '${line}' beside torch, or set CUDA_HOME, or build with --cpu`,
    });
  }
  return { include, lib };
}
