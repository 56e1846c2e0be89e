/** Where Fornax keeps what it can make again: packs, generated data. */
import { homedir } from 'node:os';
import path from 'node:path';

/**
 * The cache folder.
 *
 * @param configured `data.cache` of the config; null or absent: `$FORNAX_CACHE`, else `~/.cache/fornax`.
 */
export function cacheDir(configured?: string | null): string {
  const folder = configured || process.env.FORNAX_CACHE || path.join(homedir(), '.cache', 'fornax');
  return path.resolve(folder);
}
