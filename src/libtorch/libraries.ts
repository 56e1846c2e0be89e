/**
 * In which order libtorch's libraries are opened. The dynamic linker would find most of them by RPATH; opening
 * each by absolute path, dependencies first, turns "cannot open shared object file" into a statement of which
 * library of which package is missing, and makes LD_LIBRARY_PATH irrelevant.
 */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readElf } from './elf.js';
import type { Libtorch } from './inspect.js';

/** Folders beside torch/ in which the NVIDIA packages of pip lie: `nvidia/cu13/lib`, `nvidia/cudnn/lib`. */
export function nvidiaFolders(root: string, kind: 'lib' | 'include'): string[] {
  const base = join(dirname(root), 'nvidia');
  if (!existsSync(base)) return [];
  return readdirSync(base)
    .sort()
    .map((name) => join(base, name, kind))
    .filter((dir) => existsSync(dir));
}

export interface LoadOrder {
  /**
   * Absolute paths, dependencies first. Only libraries found in libtorch's own folders are listed: those of the
   * system (libc, libstdc++) are left to the dynamic linker.
   */
  dependencies: string[];
  /** The libraries that must load in the end. */
  roots: string[];
}

export function loadOrder(libtorch: Libtorch, cuda: boolean): LoadOrder {
  const folders = [libtorch.lib, ...nvidiaFolders(libtorch.root, 'lib')];
  const names = ['libc10.so', 'libtorch_cpu.so', ...(cuda ? ['libc10_cuda.so', 'libtorch_cuda.so'] : [])];
  const roots = names.map((name) => join(libtorch.lib, name)).filter((path) => existsSync(path));
  const dependencies: string[] = [];
  const seen = new Set<string>(roots);
  const visit = (path: string): void => {
    const facts = readElf(path);
    const own = facts.runpath.map((entry) => entry.replace(/\$\{?ORIGIN\}?/, dirname(path)));
    for (const name of facts.needed) {
      const found = [...folders, ...own].map((dir) => join(dir, name)).find((file) => existsSync(file));
      if (!found || seen.has(found)) continue;
      seen.add(found);
      visit(found);
      dependencies.push(found);
    }
  };
  roots.forEach(visit);
  return { dependencies, roots };
}
