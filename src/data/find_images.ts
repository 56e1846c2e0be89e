/** Files, folders and glob patterns on the command line as one list of image files. */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import { DataError } from '../errors.js';
import { nearest } from '../nearest.js';

const IMAGES = '**/*.{jpg,jpeg,png,webp}';

function kindOf(path: string): 'file' | 'folder' | null {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? null : stat.isDirectory() ? 'folder' : 'file';
}

function missing(path: string): DataError {
  let neighbours: string[] = [];
  try {
    neighbours = readdirSync(dirname(path));
  } catch {
    // Its folder does not exist either: no name to suggest.
  }
  const hint = nearest(basename(path), neighbours);
  return new DataError({
    what: 'There is no such file, folder or match of a pattern',
    where: path,
    fix: hint
      ? `did you mean "${join(dirname(path), hint)}"?`
      : 'give image files, folders of images, or quoted patterns',
  });
}

/**
 * The images meant by the arguments, each once, in the order of the arguments and by name within one.
 * A file is taken whatever its name; folders and patterns yield JPEG, PNG and WebP files (a pattern that names an
 * extension yields what it names).
 * @throws DataError naming the argument that yields no image
 */
export async function findImages(paths: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  for (const path of paths) {
    const kind = kindOf(path);
    if (kind === 'file') {
      found.add(path);
      continue;
    }
    if (kind === null && !isDynamicPattern(path)) throw missing(path);
    const files =
      kind === 'folder'
        ? (await glob(IMAGES, { cwd: path, caseSensitiveMatch: false })).map((file) => join(path, file))
        : await glob(path, {
            caseSensitiveMatch: false,
            expandDirectories: false,
            absolute: isAbsolute(path),
          });
    if (files.length === 0) {
      throw kind === 'folder'
        ? new DataError({
            what: 'No JPEG, PNG or WebP image in the folder',
            where: path,
            fix: 'name another folder',
          })
        : missing(path);
    }
    for (const file of files.sort()) found.add(file);
  }
  return [...found];
}
