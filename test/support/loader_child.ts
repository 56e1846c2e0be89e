/**
 * A process with a native loader at work, for tests of how it ends (loader_teardown.test.ts) and of the processor
 * variants, which are chosen once per process (augment.test.ts).
 *
 *     loader_child.js MODE SHARD     SHARD: a PackShard as JSON
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { NativeLoader, PackShard } from '#fornax/native/contract.js';
import { loadOnce, openLoader } from './loading.js';

function start(shard: PackShard, batchSize = 64): NativeLoader {
  const loader = openLoader({
    shards: [shard],
    channels: 3,
    batch_size: batchSize,
    shuffle: true,
    seed: 1,
    threads: 4,
    prefetch: 8,
    augment: {
      size: [224, 224],
      crop: { kind: 'random_resized_crop', scale: [0.08, 1], ratio: [0.75, 1.33] },
    },
    normalize: { mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2] },
  });
  loader.startEpoch(0);
  return loader;
}

const threads = (): number => Number(/Threads:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** SHA-256 of what an epoch delivers, as bytes. */
async function digest(shard: PackShard): Promise<string> {
  const hash = createHash('sha256');
  const ratio: [number, number] = [0.5, 2];
  const batches = await loadOnce({
    shards: [shard],
    channels: 3,
    batch_size: 16,
    shuffle: true,
    seed: 5,
    augment: { size: [45, 53], crop: { kind: 'random_resized_crop', scale: [0.05, 1], ratio }, hflip: 0.5 },
  });
  for (const batch of batches) hash.update(batch.image);
  return hash.digest('hex');
}

function requestAll(shard: PackShard): Promise<unknown[]> {
  const loader = start(shard);
  return Promise.all(Array.from({ length: loader.batches }, () => loader.next()));
}

async function main(mode: string, shard: PackShard): Promise<void> {
  if (mode === 'digest') {
    process.stdout.write(`${await digest(shard)}\n`);
    return;
  }
  if (mode === 'worker') {
    for (let round = 0; round < 5; round++) {
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: shard });
      await new Promise((resolve) => worker.once('message', resolve));
      await worker.terminate();
    }
    process.stdout.write(`${'terminated'}\n`);
    return;
  }
  if (mode === 'awaited') {
    // Nobody but those who wait for its batches has the loader.
    const batches = requestAll(shard);
    for (let i = 0; i < 5; i++) {
      globalThis.gc!();
      await pause(1);
    }
    process.stdout.write(`${(await batches).length}\n`);
    return;
  }
  const loader = start(shard);
  await loader.next();
  switch (mode) {
    case 'exit':
      void loader.next();
      process.exit(7);
      break;
    case 'throw':
      void loader.next();
      setImmediate(() => {
        throw new Error('uncaught on purpose');
      });
      break;
    case 'end':
      // Neither disposed nor finished: nothing is pending, so the process ends by itself.
      break;
    case 'collect': {
      loader.dispose();
      const before = threads();
      for (let i = 0; i < 20; i++) start(shard, 2);
      const during = threads();
      for (let i = 0; i < 1500 && threads() > before; i++) {
        globalThis.gc!();
        await pause(20);
      }
      process.stdout.write(`${JSON.stringify({ started: during - before, left: threads() - before })}\n`);
      break;
    }
    default:
      throw new Error(`unknown mode ${mode}`);
  }
}

if (isMainThread) {
  await main(process.argv[2]!, JSON.parse(process.argv[3]!) as PackShard);
} else {
  const loader = start(workerData as PackShard);
  await loader.next();
  parentPort!.postMessage('running');
  for (;;) await loader.next();
}
