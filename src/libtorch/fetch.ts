/** Fetches libtorch into the cache, once. */
import { InstallError } from '../errors.js';
import type { Libtorch } from './inspect.js';
import type { Variant } from './locate.js';

export async function fetchLibtorch(options: {
  variant: Variant;
  log: (line: string) => void;
}): Promise<Libtorch> {
  await Promise.resolve();
  throw new InstallError({ what: `no libtorch for ${options.variant}`, fix: 'set FORNAX_LIBTORCH' });
}
