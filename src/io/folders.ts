/** Makes folders at paths that users name. */
import { promises as fs } from 'node:fs';
import path from 'node:path';

import { FornaxError } from '../errors.js';

/**
 * Makes a folder and those above it, one by one: Node's recursive mkdir never returns on file systems that refuse
 * new folders with ENOENT, such as /proc.
 *
 * @returns the folders that were not there before, outermost first.
 * @throws FornaxError where the file system takes no folders; the error of the file system otherwise.
 */
export async function makeFolders(folder: string): Promise<string[]> {
  const absolute = path.resolve(folder);
  // A second round, as another process may take an empty folder away that was just there.
  return attempt(absolute).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw error;
    return attempt(absolute).catch(refused);
  });
}

async function attempt(absolute: string): Promise<string[]> {
  const missing: string[] = [];
  for (let at = absolute; !(await isFolder(at)); at = path.dirname(at)) missing.unshift(at);
  const made: string[] = [];
  for (const at of missing) {
    try {
      await fs.mkdir(at);
      made.push(at);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST' || !(await isFolder(at))) throw error;
    }
  }
  return made;
}

/** False: there is nothing. */
async function isFolder(at: string): Promise<boolean> {
  try {
    if ((await fs.stat(at)).isDirectory()) return true;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
  const refusal = { code: 'ENOTDIR', syscall: 'mkdir', path: at };
  throw Object.assign(new Error(`ENOTDIR: not a directory, '${at}'`), refusal);
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function refused(error: unknown): never {
  if (codeOf(error) !== 'ENOENT') throw error;
  throw new FornaxError({
    what: 'this file system takes no new folders',
    where: (error as NodeJS.ErrnoException).path ?? '',
    fix: 'choose another folder',
    cause: error,
  });
}
