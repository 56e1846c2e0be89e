import { readFileSync } from 'node:fs';

/** libtorch that Fornax fetches, and that prebuilt addons are built against. */
export const TORCH_PINNED = '2.14.1';
/** Versions of libtorch that a build from source accepts, both inclusive (major.minor). */
export const TORCH_OLDEST = '2.11';
export const TORCH_NEWEST = '2.15';

let own: string | undefined;

/** Version of this package, from its package.json. */
export function fornaxVersion(): string {
  own ??= (
    JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
  ).version;
  return own;
}
