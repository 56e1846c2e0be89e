/** Where this package lies and what it consists of there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of package.json, with dist/ below it. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/[/\\]$/, '');

/** Whether this is a clone of the repository (sources to compile), not a package installed from a registry. */
export function isClone(root = packageRoot): boolean {
  return existsSync(join(root, 'binding.gyp')) && existsSync(join(root, 'tsconfig.json'));
}
