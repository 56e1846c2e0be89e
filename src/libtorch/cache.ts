/** Making folders of the cache, and the space in them. */
import { existsSync, mkdirSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { InstallError } from '../errors.js';

/** Creates a folder of the cache. @throws InstallError naming FORNAX_CACHE when it cannot be written */
export function ensureFolder(path: string): string {
  try {
    mkdirSync(path, { recursive: true });
  } catch (cause) {
    throw new InstallError({
      what: `the cache folder cannot be created: ${(cause as Error).message}`,
      where: path,
      fix: 'set FORNAX_CACHE to a folder that you can write to',
      cause,
    });
  }
  return path;
}

/** Bytes free for this user on the file system that holds `path` (or its nearest existing parent). */
export function freeSpace(path: string): number {
  let place = resolve(path);
  while (!existsSync(place) && dirname(place) !== place) place = dirname(place);
  const stat = statfsSync(place);
  return stat.bavail * stat.bsize;
}

/**
 * @param bytes what is about to be written
 * @throws InstallError if less is free
 */
export function requireSpace(path: string, bytes: number, what: string, free = freeSpace(path)): void {
  if (free >= bytes) return;
  const gib = (n: number) => `${(n / 2 ** 30).toFixed(1)} GiB`;
  throw new InstallError({
    what: `${what} needs ${gib(bytes)}, but only ${gib(free)} are free`,
    where: path,
    fix: 'free some space there, or set FORNAX_CACHE to a folder on a larger disk',
  });
}
