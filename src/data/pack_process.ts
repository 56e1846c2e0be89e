/**
 * Packing in a process of its own on machines with many cores. Images are decoded on libuv's pool, whose size
 * (UV_THREADPOOL_SIZE, 4 unless set) is fixed when a process starts; so a process with a larger pool is started
 * for the job. It writes the pack; this one then opens it.
 */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

import { AbortedError, DataError, errorClasses, FornaxError } from '../errors.js';
import type { PackOptions, PackProgress } from './pack.js';
import type { PixelSettings, SplitSource } from './source.js';

/** Starting a process costs about 0.2 s; fewer images are decoded sooner here. */
const FEW_IMAGES = 2000;

/** What the other process is told to do. */
export interface PackJob {
  folder: string;
  classes: readonly string[];
  name: string;
  settings: PixelSettings;
  cache: string;
  onBroken: 'skip' | 'fail';
}

export type FromPacker =
  | { type: 'progress'; progress: PackProgress }
  | { type: 'wait'; owner: string }
  | { type: 'done' }
  | { type: 'failed'; name: string; what: string; where?: string; fix?: string };

/** Size of libuv's pool in this process. */
export function poolSize(): number {
  return Number(process.env.UV_THREADPOOL_SIZE) || 4;
}

/** Threads for another process, or null if this one does as well. */
export function threadsForProcess(split: SplitSource, options: PackOptions): number | null {
  const threads = options.decodeThreads ?? availableParallelism();
  const worth = options.decodeThreads !== undefined || split.labels.length >= FEW_IMAGES;
  return split.folder !== undefined && worth && threads > poolSize() ? threads : null;
}

/** Has the split packed by another process. Errors and cancelling are as if it were done here. */
export async function packInProcess(
  split: SplitSource & { folder: string },
  settings: PixelSettings,
  options: PackOptions,
  threads: number,
): Promise<void> {
  const { folder, classes, name } = split;
  const { cache, onBroken, signal } = options;
  if (signal?.aborted) throw new AbortedError('stopped before packing');
  const child = fork(fileURLToPath(new URL('./pack_worker.js', import.meta.url)), [], {
    env: { ...process.env, UV_THREADPOOL_SIZE: String(threads) },
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const stop = (): void => void (child.connected && child.send('stop'));
  signal?.addEventListener('abort', stop);
  try {
    await new Promise<void>((resolve, reject) => {
      let outcome: FromPacker | null = null;
      child.on('error', reject);
      child.on('message', (message: FromPacker) => {
        if (message.type === 'progress') options.onProgress?.(message.progress);
        else if (message.type === 'wait') options.onWait?.(message.owner);
        else outcome = message;
      });
      child.on('close', (code, killedBy) => {
        if (outcome?.type === 'done') resolve();
        else reject(outcome ? revive(outcome) : ended(code, killedBy, split));
      });
      child.send({ folder, classes, name, settings, cache, onBroken } satisfies PackJob);
    });
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

function revive(failed: FromPacker): Error {
  if (failed.type !== 'failed') return new Error(`unexpected message '${failed.type}'`);
  const { name, what, where, fix } = failed;
  const Class = Object.hasOwn(errorClasses, name)
    ? errorClasses[name as keyof typeof errorClasses]
    : FornaxError;
  return new Class({ what, where, fix });
}

function ended(code: number | null, killedBy: string | null, split: SplitSource): DataError {
  return new DataError({
    what: `the process that decodes the images ended early (${killedBy ?? `exit code ${code}`})`,
    where: split.location,
    fix: killedBy === 'SIGKILL' ? 'the machine may have run out of memory' : 'see its message above',
  });
}
