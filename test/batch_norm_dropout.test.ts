/**
 * Why dropout must be off while batch-norm statistics are recomputed: a residual network with dropout (or stochastic
 * depth) before its batch norms loses accuracy by statistics that were taken with it active, as `model.train()`
 * leaves it. Ours are taken without.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { trace } from '#fornax/graph/trace.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type { Modes, NativeGraph, NativeInference, NativeTensor } from '#fornax/native/contract.js';
import {
  BatchNorm1d,
  Dropout,
  functional as F,
  Linear,
  Module,
  Sequential,
  StochasticDepth,
  type Tensor,
} from '#fornax/nn/index.js';

import { random } from './support/random.js';

const { Graph, InferenceSession, Tensor: NativeTensors, TrainSession } = loadAddon();

const WIDTH = 64;
const BLOCKS = 8;
const CLASSES = 3;
const BATCH = 128;

type Regulariser = () => Module & { forward(x: Tensor): Tensor };

/** x + Linear(relu(BatchNorm(regulariser(x)))), the first block behind a linear layer from two dimensions. */
class ResidualNet extends Module {
  readonly stem = new Linear(2, WIDTH);
  readonly blocks: Sequential;
  readonly head = new Linear(WIDTH, CLASSES);

  constructor(regulariser: Regulariser) {
    super();
    this.blocks = new Sequential(...Array.from({ length: BLOCKS }, () => new Block(regulariser())));
  }

  forward(image: Tensor): Tensor {
    return this.head.forward(this.blocks.forward(this.stem.forward(image)));
  }
}

class Block extends Module {
  readonly bn = new BatchNorm1d(WIDTH);
  readonly fc = new Linear(WIDTH, WIDTH);

  constructor(readonly regulariser: ReturnType<Regulariser>) {
    super();
  }

  forward(x: Tensor): Tensor {
    return x.add(this.fc.forward(F.relu(this.bn.forward(this.regulariser.forward(x)))));
  }
}

type Batch = Record<string, NativeTensor>;

/** Three spirals that wind around each other: fine structure, which shifted activations blur. */
function spirals(count: number, seed: number): { image: number[]; label: number }[] {
  const draw = random(seed);
  const uniform = (): number => draw(1 << 24) / (1 << 24);
  return Array.from({ length: count }, () => {
    const label = draw(CLASSES);
    const t = Math.sqrt(uniform());
    const angle = 9 * t + (label * 2 * Math.PI) / CLASSES;
    const noise = (): number => 0.06 * (uniform() - 0.5);
    return { image: [2 * t * Math.cos(angle) + noise(), 2 * t * Math.sin(angle) + noise()], label };
  });
}

function batches(data: ReturnType<typeof spirals>): Batch[] {
  return Array.from({ length: data.length / BATCH }, (_, i) => {
    const rows = data.slice(i * BATCH, (i + 1) * BATCH);
    return {
      image: NativeTensors.fromTypedArray(Float32Array.from(rows.flatMap(({ image }) => image)), [BATCH, 2]),
      label: NativeTensors.fromTypedArray(BigInt64Array.from(rows.map(({ label }) => BigInt(label))), [
        BATCH,
      ]),
    };
  });
}

async function trained(regulariser: Regulariser, data: Batch[], epochs: number): Promise<NativeGraph> {
  const graph = trace(new ResidualNet(regulariser), { inputs: [[BATCH, 2]] });
  const model = new Graph(graph, { trusted: true });
  model.initialize(3);
  const parameters = graph.parameters.filter(({ kind }) => kind === 'parameter').map(({ name }) => name);
  const session = new TrainSession(model, {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'adamw' },
    groups: [{ parameters, weight_decay: 0.01 }],
    schedule: { name: 'constant', lr: 3e-3 },
    seed: 5,
    threads: 1,
  });
  for (let epoch = 0; epoch < epochs; epoch++) await session.run(data, { steps: data.length });
  session.dispose();
  return model;
}

/** Percent. */
async function accuracy(session: NativeInference, data: Batch[]): Promise<number> {
  session.refresh();
  let right = 0;
  for (const { image, label } of data) {
    const { output } = await session.forward({ image: image! });
    const logits = output!.toTypedArray() as Float32Array;
    (label!.toTypedArray() as BigInt64Array).forEach((expected, i) => {
      const row = [...logits.subarray(i * CLASSES, (i + 1) * CLASSES)];
      if (row.indexOf(Math.max(...row)) === Number(expected)) right++;
    });
  }
  return (100 * right) / (data.length * BATCH);
}

/** What torch.optim.swa_utils.update_bn does: everything in train mode, plain means over the batches. */
async function recomputeInTrainMode(
  model: NativeGraph,
  session: NativeInference,
  data: Batch[],
): Promise<void> {
  const modes: Modes = { dropout: 'train', stochastic_depth: 'train', batch_norm: 'recompute' };
  const sums = new Map<string, Float64Array>();
  const statistics = (): { name: string; tensor: NativeTensor }[] =>
    model.state().filter(({ name }) => /running_(mean|var)$/.test(name));
  for (const [i, { image }] of data.entries()) {
    await session.forward({ image: image! }, { modes, seed: i });
    for (const { name, tensor } of statistics()) {
      const values = tensor.toTypedArray() as Float32Array;
      const sum = sums.get(name) ?? new Float64Array(values.length);
      values.forEach((value, at) => (sum[at]! += value / data.length));
      sums.set(name, sum);
    }
  }
  const means = [...sums].map(
    ([name, sum]) => [name, NativeTensors.fromTypedArray(Float32Array.from(sum), [sum.length])] as const,
  );
  model.loadState(Object.fromEntries(means), { strict: false });
}

const train = batches(spirals(2048, 1));
const validation = batches(spirals(1024, 2));

for (const [name, regulariser, epochs] of [
  ['dropout', () => new Dropout(0.3), 30],
  ['stochastic depth', () => new StochasticDepth(0.2, 'row'), 30],
] as const) {
  test(`${name} before batch norm: active while statistics are taken it costs accuracy, ours does not`, async (t) => {
    const model = await trained(regulariser, train, epochs);
    const session = new InferenceSession(model, { threads: 1 });
    const before = await accuracy(session, validation);
    await recomputeInTrainMode(model, session, train);
    const active = await accuracy(session, validation);
    const result = await session.recomputeBatchNorm(train, { batches: 200 });
    const ours = await accuracy(session, validation);
    t.diagnostic(
      `trained ${before.toFixed(1)} %, recomputed with ${name} ${active.toFixed(1)} %, without ${ours.toFixed(1)} %`,
    );
    assert.deepEqual([result.layers, result.inactive], [BLOCKS, BLOCKS]);
    assert.ok(ours > 90, `${ours}`);
    assert.ok(ours >= before, 'recomputing costs nothing');
    assert.ok(ours - active > 5, `${ours} against ${active}`);
  });
}
