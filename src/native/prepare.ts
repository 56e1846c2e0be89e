/** From nothing to a usable addon: finds or fetches libtorch, then builds what is out of date. */
import { InstallError } from '../errors.js';
import { checkHost, hasNvidiaGpu } from '../libtorch/host.js';
import { fetchLibtorch } from '../libtorch/fetch.js';
import { inspectLibtorch, type Libtorch } from '../libtorch/inspect.js';
import { locateLibtorch } from '../libtorch/locate.js';
import { buildAddon, upToDate } from './build.js';
import type { Sidecar } from './sidecar.js';
import { checkToolchain } from './toolchain.js';

export interface PrepareOptions {
  /** Use this libtorch and no other. */
  libtorch?: string;
  /** Default: CUDA where an NVIDIA driver is installed and libtorch has CUDA, else CPU. */
  variant?: 'cpu' | 'cuda';
  /** Compile even if nothing changed. */
  force?: boolean;
  log: (line: string) => void;
  /** Called before anything is compiled; throws if a tool is missing. */
  checkTools?: () => void;
}

/** @throws InstallError that names what is missing and how to get it */
export async function prepareAddon(options: PrepareOptions): Promise<{ sidecar: Sidecar; built: boolean }> {
  const { log } = options;
  const named = options.libtorch ?? process.env.FORNAX_LIBTORCH ?? process.env.LIBTORCH;
  if (!options.force && !named) {
    // The usual start: built before, nothing changed. No Python, no search.
    const current = upToDate(undefined, options.variant && options.variant === 'cuda');
    if (current) return { sidecar: current, built: false };
  }
  checkHost();
  const wantsCuda = options.variant === 'cuda' || (options.variant !== 'cpu' && hasNvidiaGpu());
  let libtorch: Libtorch | undefined;
  if (options.libtorch) {
    libtorch = inspectLibtorch(options.libtorch, { headers: true });
  } else {
    const { found, attempts } = locateLibtorch({ purpose: 'build', cuda: wantsCuda && !named });
    libtorch = found?.libtorch;
    for (const attempt of attempts) {
      if (attempt.path) log(`not using ${attempt.source} (${attempt.path}): ${attempt.reason}`);
    }
  }
  if (!libtorch) {
    // Before the long download, not after it.
    options.checkTools?.();
    checkToolchain();
    libtorch = await fetchLibtorch({ variant: wantsCuda ? 'cuda' : 'cpu', log });
  }
  // Where CUDA is not asked for but possible, a CPU-only libtorch (one that the user named) gives the CPU variant.
  const cuda = wantsCuda && libtorch.hasCuda;
  if (options.variant === 'cuda' && !cuda) {
    throw new InstallError({
      what: 'this libtorch is CPU-only, but the CUDA variant is to be built',
      where: libtorch.root,
      fix: 'name a CUDA build of torch (--libtorch PATH or FORNAX_LIBTORCH), or none, so that one is fetched; or build for the CPU: npx fornax build --cpu',
    });
  }
  if (!options.force) {
    const current = upToDate(libtorch, cuda);
    if (current) return { sidecar: current, built: false };
  }
  options.checkTools?.();
  return { sidecar: await buildAddon({ libtorch, cuda, log }), built: true };
}
