/**
 * The list of files a fetch leaves in the cache folder, written last. A folder without one, or with a file of
 * another size, is half-written or damaged: it is never used, and the next fetch replaces it.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

export const MANIFEST = 'fornax-libtorch.json';

export interface Manifest {
  version: string;
  variant: 'cpu' | 'cuda';
  /** Size in bytes of each file, by its path relative to the folder. */
  files: Record<string, number>;
}

export function readManifest(folder: string): Manifest | undefined {
  try {
    const manifest = JSON.parse(readFileSync(join(folder, MANIFEST), 'utf8')) as Manifest;
    return typeof manifest.files === 'object' && manifest.files !== null ? manifest : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Whether every file is there with its size. Checking 10,000 headers costs 60 ms, so only what is loaded at run
 * time is checked by default; `thorough` checks all.
 */
export function isComplete(folder: string, options: { thorough?: boolean } = {}): boolean {
  const manifest = readManifest(folder);
  if (!manifest) return false;
  return Object.entries(manifest.files).every(([path, size]) => {
    if (!options.thorough && !/\.so(\.\d+)*$/.test(path)) return true;
    return statSync(join(folder, path), { throwIfNoEntry: false })?.size === size;
  });
}
