/** Opens libtorch's libraries and then the addon. Used by the process itself and by the child that tries it first. */
import { createRequire } from 'node:module';
import type { LoadOrder } from '../libtorch/libraries.js';
import type { NativeAddon } from './contract.js';

/** What the loader addon (native/loader) offers. */
interface LoaderAddon {
  /** Null when it is loaded, else the dynamic linker's words. */
  open(path: string): string | null;
  isLoaded(name: string): boolean;
  /** Sets an environment variable of the process unless it is set. */
  setDefault(name: string, value: string): void;
}

export interface OpenRequest {
  loader: string;
  libraries: LoadOrder;
  addon: string;
}

/**
 * How long libgomp's workers spin at the end of a parallel region before they sleep. Its default (300,000 turns)
 * costs tens of milliseconds whenever another process takes one of the cores; none at all costs a wake-up per
 * region. Read by libgomp once, when it is loaded.
 */
const OPENMP_DEFAULTS: Record<string, string> = { GOMP_SPINCOUNT: '20000' };

/**
 * Without it cuBLAS may give other bits from run to run when several streams are in use, and libtorch refuses its
 * deterministic mode. Read when the first handle is made; 32 MiB of workspace for each, what newer GPUs have anyway.
 */
const CUDA_DEFAULTS: Record<string, string> = { CUBLAS_WORKSPACE_CONFIG: ':4096:8' };

/** @throws Error with the dynamic linker's message, preceded by the file that it is about */
export function openAddon(request: OpenRequest): NativeAddon {
  const require = createRequire(import.meta.url);
  const loader = require(request.loader) as LoaderAddon;
  if (!process.env.OMP_WAIT_POLICY) {
    for (const [name, value] of Object.entries(OPENMP_DEFAULTS)) loader.setDefault(name, value);
  }
  for (const [name, value] of Object.entries(CUDA_DEFAULTS)) loader.setDefault(name, value);
  // Some dependencies use symbols of the library that needs them (libtorch_nvshmem those of libc10_cuda), so they
  // load only together with it: a failure counts when a root fails in the end, and then it is the cause.
  const failures = new Map<string, string>();
  const open = (path: string): boolean => {
    const reason = loader.open(path);
    if (reason !== null) failures.set(path, reason.replace(`${path}: `, ''));
    return reason === null;
  };
  request.libraries.dependencies.forEach(open);
  for (const root of request.libraries.roots) {
    if (open(root)) continue;
    const reasons = [...failures].map(([path, reason]) => `${path} cannot be loaded: ${reason}`);
    throw new Error(reasons.reverse().join('; '));
  }
  return require(request.addon) as NativeAddon;
}
