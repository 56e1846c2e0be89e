/**
 * A process that goes on using its handles in an `exit` listener of its own, which runs after the one that ends the
 * native threads: run by ../teardown.test.ts. Prints what each use came to, then ends with code 7.
 */
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { trace } from '#fornax/graph/trace.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { createModule } from '#fornax/models/registry.js';
import { loadAddon } from '#fornax/native.js';
import { makeImage, writeShard } from '../support/pack_files.js';

const addon = loadAddon();

function makeGraph(): InstanceType<typeof addon.Graph> {
  const module = createModule('tiny_cnn', { numClasses: 4 });
  const graph = new addon.Graph(trace(module, { inputs: [{ name: 'image', shape: [2, 3, 32, 32] }] }), {
    trusted: true,
  });
  graph.initialize(1);
  return graph;
}

function makeLoader(): InstanceType<typeof addon.Loader> {
  const folder = mkdtempSync(join(tmpdir(), 'fornax-late-'));
  const images = Array.from({ length: 400 }, (_, i) =>
    makeImage(32, 32, 3, i % 4, (y, x, c) => (y * i + x * c) & 255),
  );
  const shard = writeShard(folder, 'pack', images);
  const loader = new addon.Loader({
    shards: [shard],
    channels: 3,
    batch_size: 2,
    shuffle: false,
    seed: 1,
    threads: 2,
    augment: { size: [32, 32], crop: { kind: 'none' } },
  });
  rmSync(folder, { recursive: true }); // it stays mapped
  loader.startEpoch(0);
  return loader;
}

const normalize = { mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25] };
const graph = makeGraph();
const loader = makeLoader();
const running = makeLoader();
const parameters = graph.state().flatMap((entry) => (entry.kind === 'parameter' ? [entry.name] : []));
const training = new addon.TrainSession(graph, {
  device: 'cpu',
  loss: crossEntropy(),
  optimizer: { name: 'sgd', momentum: 0.9 },
  groups: [{ parameters, weight_decay: 0 }],
  schedule: { name: 'constant', lr: 0.01 },
  normalize,
});
const inference = new addon.InferenceSession(makeGraph(), { normalize });
const image = addon.Tensor.fromTypedArray(new Float32Array(2 * 3 * 32 * 32), [2, 3, 32, 32]);
const label = addon.Tensor.fromTypedArray(new BigInt64Array(2), [2]);

await training.step({ image, label }, { update: false });
await inference.forward({ image });
const snapshot = training.snapshot();
if (process.argv[2] === 'running')
  void training.run(running, { steps: 1e6, event_interval_ms: 5 }).catch(() => null);

const uses: Record<string, () => unknown> = {
  snapshot: () => training.snapshot(),
  restore: () => training.restore(snapshot, 0),
  gradients: () => training.gradients(),
  stepCount: () => training.stepCount,
  learningRate: () => training.learningRate(3),
  stop: () => training.stop(),
  step: () => training.step({ image, label }),
  run: () => training.run(loader, { steps: 1 }),
  forward: () => inference.forward({ image }),
  evaluate: () => inference.evaluate(loader, { classes: 4 }),
  refresh: () => inference.refresh(),
  startEpoch: () => loader.startEpoch(1),
  next: () => loader.next(),
  state: () => graph.state().length,
  session: () => new addon.InferenceSession(graph, {}),
  loader: () => makeLoader(),
  call: () => addon.Tensor.call('aten::relu', [image]),
  disposeSession: () => training.dispose(),
  disposeInference: () => inference.dispose(),
  disposeLoader: () => loader.dispose(),
};

process.on('exit', () => {
  for (const [name, use] of Object.entries(uses)) {
    let outcome: string;
    try {
      const result = use();
      if (result instanceof Promise) result.catch(() => undefined);
      outcome = result instanceof Promise ? 'pending' : 'done';
    } catch (error) {
      outcome = (error as Error).name;
    }
    writeSync(1, `${name} ${outcome}\n`);
  }
});
setTimeout(() => process.exit(7), 50);
