/**
 * A lock between processes: a file made with O_EXCL that names its owner and is touched while it is held. One
 * whose process is dead (same host) or that was not touched for a minute (another host) is taken over.
 */
import { randomBytes } from 'node:crypto';
import { promises as fs, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';

import { AbortedError } from '../errors.js';
import { makeFolders } from './folders.js';
import { refusedWrite } from './write_error.js';

const TOUCH_MS = 5_000;
const STALE_MS = 60_000;

export interface LockOptions {
  signal?: AbortSignal | undefined;
  /** Called once if another process holds the lock. */
  onWait?: ((owner: string) => void) | undefined;
  /** How often a waiting process looks again, ms. Default 200. */
  pollMs?: number;
}

interface Owner {
  host: string;
  pid: number;
  /** When the process began (clock ticks since boot): a restarted container reuses host name and pid. */
  start: string | null;
  token: string;
}

/** Tokens of locks that this process released, but whose file could not be removed. */
const released = new Set<string>();
/** Lock files that this process made, but could neither fill nor remove. */
const unfilled = new Set<string>();

export interface Lock {
  release(): Promise<void>;
}

/** Takes the lock `file` if it is free; does not wait. */
export async function acquireLock(file: string): Promise<Lock | { heldBy: string }> {
  await makeFolders(path.dirname(file));
  const token = randomBytes(8).toString('hex');
  const owner: Owner = { host: hostname(), pid: process.pid, start: startOf(process.pid), token };
  // Three rounds: a stale lock is taken away, and another process may be quicker to make a new one and die too.
  for (let round = 0; round < 3; round++) {
    try {
      await fs.writeFile(file, JSON.stringify(owner), { flag: 'wx' });
      unfilled.delete(path.resolve(file));
      return hold(file, token);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        // Made but not filled: others would take it for a lock that is just being written.
        await fs.rm(file, { force: true }).catch(() => unfilled.add(path.resolve(file)));
        throw refusedWrite(error, file);
      }
    }
    const stale = await staleOwner(file);
    if (stale === null) break;
    await takeAway(file, stale);
  }
  const holder = await readOwner(file);
  return { heldBy: holder ? `process ${holder.pid} on ${holder.host}` : 'another process' };
}

function hold(file: string, token: string): Lock {
  const touch = setInterval(() => {
    const now = new Date();
    fs.utimes(file, now, now).catch(() => undefined); // gone or read-only: the work itself is still sound
  }, TOUCH_MS);
  touch.unref();
  return {
    async release() {
      clearInterval(touch);
      released.add(token);
      const owner = await readOwner(file);
      if (owner?.token !== token) return;
      // Where it cannot be removed it is stale: its process ends, or knows that it has released it.
      await fs.rm(file, { force: true }).then(
        () => released.delete(token),
        () => undefined,
      );
    },
  };
}

/** Start time of a process from /proc, or null if it is gone. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may hold spaces; the 20th field after it is the start time.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** Runs `work` while holding the lock `file`; waits until it is free. */
export async function withLock<T>(
  file: string,
  work: () => Promise<T>,
  options: LockOptions = {},
): Promise<T> {
  let told = false;
  for (;;) {
    if (options.signal?.aborted) throw new AbortedError(`stopped while waiting for the lock ${file}`);
    const lock = await acquireLock(file);
    if ('release' in lock) {
      try {
        return await work();
      } finally {
        await lock.release();
      }
    }
    if (!told) {
      told = true;
      options.onWait?.(lock.heldBy);
    }
    await new Promise((resolve) => setTimeout(resolve, options.pollMs ?? 200));
  }
}

async function readOwner(file: string): Promise<Owner | null> {
  try {
    return JSON.parse(await fs.readFile(file, 'utf8')) as Owner;
  } catch {
    return null; // gone, or just being written
  }
}

/** The token of an owner that is no more ('' if unreadable), or null while the lock is held or already gone. */
async function staleOwner(file: string): Promise<string | null> {
  const stat = await fs.stat(file).catch(() => null);
  if (!stat) return null;
  const owner = await readOwner(file);
  const age = Date.now() - stat.mtimeMs;
  if (owner === null) return age > STALE_MS || unfilled.has(path.resolve(file)) ? '' : null;
  if (owner.host !== hostname()) return age > STALE_MS ? owner.token : null;
  if (released.has(owner.token)) return owner.token;
  const start = startOf(owner.pid);
  return start === null || start !== owner.start ? owner.token : null;
}

/** Only one waiter wins the rename; if what it moved is not the stale lock after all, it is put back. */
async function takeAway(file: string, staleToken: string): Promise<void> {
  const aside = `${file}.stale-${randomBytes(6).toString('hex')}`;
  try {
    await fs.rename(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const moved = await readOwner(aside);
  if (moved !== null && moved.token !== staleToken) await fs.link(aside, file).catch(() => undefined);
  await fs.rm(aside, { force: true });
}
