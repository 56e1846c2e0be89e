/**
 * A process (or worker thread) in the middle of native work that ends in some way: run by ../teardown.test.ts as
 * `node job.js <work> <ending>`. Prints `busy` once the work is under way.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { trace } from '#fornax/graph/trace.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { createModule } from '#fornax/models/registry.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeGraph, NativeLoader, TrainOptions } from '#fornax/native/contract.js';
import { makeImage, writeShard } from '../support/pack_files.js';

type Work = 'inference' | 'evaluation' | 'training' | 'loading' | 'measuring';
type Ending = 'exit' | 'throw' | 'terminate' | 'gc' | 'finish';

const [work, ending] = (isMainThread ? process.argv.slice(2) : (workerData as string[])) as [Work, Ending];

function makeGraph(): NativeGraph {
  const addon = loadAddon();
  const module = createModule('resnet18', { numClasses: 4 });
  const graph = new addon.Graph(trace(module, { inputs: [{ name: 'image', shape: [2, 3, 64, 64] }] }), {
    trusted: true,
  });
  graph.initialize(1);
  return graph;
}

function makeLoader(samples: number): NativeLoader {
  const folder = mkdtempSync(join(tmpdir(), 'fornax-teardown-'));
  const images = Array.from({ length: samples }, (_, i) =>
    makeImage(72, 80, 3, i % 4, (y, x, c) => (y * i + x * c) & 255),
  );
  const shard = writeShard(folder, 'pack', images);
  const loader = new (loadAddon().Loader)({
    shards: [shard],
    channels: 3,
    batch_size: 16,
    shuffle: true,
    seed: 1,
    threads: 2,
    augment: { size: [64, 64], crop: { kind: 'random_resized_crop', scale: [0.2, 1], ratio: [0.75, 1.33] } },
  });
  rmSync(folder, { recursive: true }); // it stays mapped
  loader.startEpoch(0);
  return loader;
}

const normalize = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };

/** Starts the work; resolves when it has ended by itself. */
async function start(): Promise<void> {
  const addon = loadAddon();
  if (work === 'loading') {
    const loader = makeLoader(ending === 'finish' ? 64 : 4000);
    while (await loader.next());
    return;
  }
  const graph = makeGraph();
  if (work === 'inference') {
    const session = new addon.InferenceSession(graph, { workers: 2 });
    const image = addon.Tensor.fromTypedArray(new Float32Array(16 * 3 * 64 * 64), [16, 3, 64, 64]);
    const count = ending === 'finish' ? 4 : 200;
    await Promise.all(Array.from({ length: count }, () => session.forward({ image })));
    return;
  }
  const parameters = graph.state().flatMap((entry) => (entry.kind === 'parameter' ? [entry.name] : []));
  const options: TrainOptions = {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'sgd', momentum: 0.9 },
    groups: [{ parameters, weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0.01 },
    channels_last: true,
    normalize,
  };
  if (work === 'measuring') {
    const inputs = [{ shape: [64, 3, 64, 64], dtype: 'float32' as const }];
    const request = { inputs, ...(ending === 'finish' && { steps: 1 }) };
    await addon.measurePrecision(graph, options, request).verdict;
    return;
  }
  const loader = makeLoader(ending === 'finish' ? 32 : 4000);
  if (work === 'evaluation') {
    await new addon.InferenceSession(graph, { normalize }).evaluate(loader, {
      classes: 4,
      loss: crossEntropy(),
      onProgress: () => undefined,
    });
    return;
  }
  const session = new addon.TrainSession(graph, options);
  await session.run(loader, { steps: 1e6, event_interval_ms: 5, onEvent: () => undefined });
}

function end(): void {
  switch (ending) {
    case 'exit':
      process.exit(7);
    // eslint-disable-next-line no-fallthrough -- process.exit does not return
    case 'throw':
      throw new Error('on purpose');
    case 'gc':
      if (!globalThis.gc) throw new Error('needs --expose-gc');
      for (let i = 0; i < 3; i++) globalThis.gc();
      setTimeout(() => process.exit(7), 100);
      return;
    default:
  }
}

if (isMainThread && ending === 'terminate') {
  const worker = new Worker(new URL(import.meta.url), { argv: [], workerData: [work, ending] });
  worker.once('message', () => {
    process.stdout.write('busy\n');
    setTimeout(() => {
      void worker.terminate().then(() => {
        // The main thread goes on and can use the addon.
        const two = loadAddon().Tensor.call('aten::add.Scalar', [
          loadAddon().Tensor.fromTypedArray(new Float32Array([1]), [1]),
          1,
        ]);
        process.exitCode = two[0]?.item() === 2 ? 7 : 1;
      });
    }, 150);
  });
} else {
  const done = start();
  if (isMainThread) process.stdout.write('busy\n');
  else parentPort?.postMessage('busy');
  if (ending === 'finish') {
    // Nothing else keeps the process alive: it must end by itself, with every handle left to the collector.
    void done.then(() => {
      process.exitCode = 7;
    });
  } else {
    void done.catch((error: unknown) => {
      process.stdout.write(`rejected ${(error as Error).name}\n`);
    });
    setTimeout(end, 200);
  }
}
