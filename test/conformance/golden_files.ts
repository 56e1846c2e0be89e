/** The golden files of this repository. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kinds } from './kinds.js';

export const goldenFolder = fileURLToPath(new URL('../../../../test/golden/', import.meta.url));

/** A file of the folder, parsed but not checked. */
export function readGolden(name: string): { kind: string } {
  return JSON.parse(readFileSync(join(goldenFolder, name), 'utf8')) as { kind: string };
}

/** Names of the files whose kind can be run, and of those that wait for theirs. */
export function goldenFiles(): { known: string[]; waiting: string[] } {
  const files = readdirSync(goldenFolder)
    .filter((name) => name.endsWith('.json'))
    .sort();
  const isKnown = (name: string): boolean => Object.hasOwn(kinds, readGolden(name).kind);
  return { known: files.filter(isKnown), waiting: files.filter((name) => !isKnown(name)) };
}
