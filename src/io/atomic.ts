/**
 * The one way Fornax writes files and folders: beside the target under a temporary name, flushed to the disk,
 * then renamed. A reader sees the old contents or the new ones, never a part; a crash leaves only an orphan with
 * a temporary name, which `sweepOrphans` removes.
 */
import { randomBytes } from 'node:crypto';
import { constants as fsConstants, promises as fs } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';

import { makeFolders } from './folders.js';
import { refusedWrite } from './write_error.js';

/** `.name.tmp-<host>-<pid>-<random>`: tells whose it is, so that a live writer's file is never swept. */
const TEMPORARY = /^\..+\.tmp-([0-9a-f]{8})-(\d+)-[0-9a-f]{12}$/;

function hostTag(): string {
  let hash = 2166136261;
  for (const byte of Buffer.from(hostname())) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  return hash.toString(16).padStart(8, '0');
}

/** A fresh temporary name in the folder of `target`. */
export function temporaryPath(target: string): string {
  const name = `.${path.basename(target)}.tmp-${hostTag()}-${process.pid}-${randomBytes(6).toString('hex')}`;
  return path.join(path.dirname(path.resolve(target)), name);
}

/** Flushes a file or a folder (its list of names) to the disk. */
export async function fsync(target: string): Promise<void> {
  const handle = await fs.open(target, fsConstants.O_RDONLY);
  try {
    await handle.sync();
  } catch (error) {
    // Some network file systems refuse to sync folders; the rename itself is all they offer.
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EINVAL' && code !== 'ENOTSUP') throw error;
  } finally {
    await handle.close();
  }
}

/** What the callbacks of the writers below may say of themselves. */
export interface WriteOptions {
  /** They have flushed every file to the disk: it is not done once more. */
  flushed?: boolean;
}

async function fsyncTree(folder: string): Promise<void> {
  for (const entry of await fs.readdir(folder, { withFileTypes: true })) {
    const child = path.join(folder, entry.name);
    if (entry.isDirectory()) await fsyncTree(child);
    else if (entry.isFile()) await fsync(child);
  }
  await fsync(folder);
}

/** Renames a flushed file or folder to its place and flushes the folder that holds it. */
async function commit(temporary: string, target: string): Promise<void> {
  await fs.rename(temporary, target);
  await fsync(path.dirname(path.resolve(target)));
}

/**
 * Lets `write` fill a temporary file and puts it in the place of `target` once it is on the disk. If anything
 * fails the temporary file is removed and `target` stays as it was.
 *
 * @param write receives the temporary path and must create the file; its result is passed on.
 */
export async function writeAtomically<T>(
  target: string,
  write: (temporary: string) => Promise<T>,
  { flushed = false }: WriteOptions = {},
): Promise<T> {
  const temporary = temporaryPath(target);
  try {
    await makeFolders(path.dirname(path.resolve(target)));
    const result = await write(temporary);
    if (!flushed) await fsync(temporary);
    await commit(temporary, target);
    return result;
  } catch (error) {
    await discard(temporary);
    throw refusedWrite(error, target);
  }
}

/** Removes what a failed writer left, if the file system lets us: an orphan is swept later, the error matters now. */
async function discard(temporary: string): Promise<void> {
  await fs.rm(temporary, { recursive: true, force: true }).catch(() => undefined);
}

/** Writes text or bytes atomically. */
export async function writeFileAtomic(target: string, data: string | Uint8Array): Promise<void> {
  await writeAtomically(target, (temporary) => fs.writeFile(temporary, data, { flag: 'wx' }));
}

/**
 * Lets `write` fill a temporary folder and renames it to `target`, which must not exist yet (a rename cannot
 * replace a folder that has contents). If anything fails the temporary folder is removed.
 */
export async function writeFolderAtomically<T>(
  target: string,
  write: (temporary: string) => Promise<T>,
  { flushed = false }: WriteOptions = {},
): Promise<T> {
  const temporary = temporaryPath(target);
  try {
    await makeFolders(path.dirname(path.resolve(target)));
    await fs.mkdir(temporary);
    const result = await write(temporary);
    await (flushed ? fsync(temporary) : fsyncTree(temporary));
    await commit(temporary, target);
    return result;
  } catch (error) {
    await discard(temporary);
    throw refusedWrite(error, target);
  }
}

/**
 * Removes a folder so that no reader ever sees it half emptied: it is renamed to a temporary name first (an
 * orphan, if the process dies in between).
 */
export async function removeFolderAtomically(target: string): Promise<void> {
  const temporary = temporaryPath(target);
  try {
    await fs.rename(target, temporary);
    await fs.rm(temporary, { recursive: true, force: true });
  } catch (error) {
    throw refusedWrite(error, target);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Removes what interrupted writers left in `folder` (not below it). A temporary entry goes if its process is
 * dead, or if `all` is given (the caller holds the folder's lock); one of another host goes after a day.
 *
 * @returns the names removed.
 */
export async function sweepOrphans(folder: string, options: { all?: boolean } = {}): Promise<string[]> {
  const removed: string[] = [];
  let names: string[];
  try {
    names = await fs.readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return removed;
    throw error;
  }
  for (const name of names) {
    const match = TEMPORARY.exec(name);
    if (!match) continue;
    const entry = path.join(folder, name);
    if (!options.all) {
      const stat = await fs.stat(entry).catch(() => null);
      if (!stat) continue;
      const ours = match[1] === hostTag();
      const dayOld = Date.now() - stat.mtimeMs > 24 * 3600 * 1000;
      if (ours ? isAlive(Number(match[2])) : !dayOld) continue;
    }
    await fs.rm(entry, { recursive: true, force: true }).catch((error: unknown) => {
      throw refusedWrite(error, entry);
    });
    removed.push(name);
  }
  return removed;
}
