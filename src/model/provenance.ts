/** Where a model comes from, as far as it is told to those who get its file. */
import type { ModelInfo } from './info.js';

/** Settings that are folders of the machine and nothing else. */
const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  data: ['path', 'cache'],
  run: ['dir'],
  model: ['weights_dir'],
};

/** Settings that may be a file, a name or an address. */
const FILES = new Set(['pretrained', 'weights', 'teacher']);

const ADDRESS = /^https?:\/\//i;
const ABSOLUTE = /^(?:\/|~|\\\\|[A-Za-z]:[\\/]|file:)/;

function basename(path: string): string {
  return path.split(/[\\/]+/).findLast((part) => part !== '') ?? '';
}

/** An address without a user's name and password; of a path its last part. */
function withoutFolder(text: string, isFile: boolean): string {
  if (ADDRESS.test(text)) return text.replace(/^(https?:\/\/)[^/?#]*@/i, '$1');
  return isFile || ABSOLUTE.test(text) ? basename(text) : text;
}

function clean(value: unknown, key: string): unknown {
  if (typeof value === 'string') return withoutFolder(value, FILES.has(key));
  if (Array.isArray(value)) return value.map((item: unknown) => clean(item, key));
  if (typeof value !== 'object' || value === null) return value;
  const dropped = FOLDERS[key] ?? [];
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !dropped.includes(name))
      .map(([name, item]) => [name, clean(item, name)]),
  );
}

/**
 * A provenance (snake_case) that tells nothing of the machine's folders: model files and exports travel. Folders of
 * data, runs and caches are left out; of other paths the last part is kept.
 */
export function portableProvenance(provenance: ModelInfo['provenance']): ModelInfo['provenance'] {
  return clean(provenance, '') as ModelInfo['provenance'];
}
