/** Losses and metrics of a script, traced over the model's outputs and the fields of its data. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { ArgumentError, ConfigError } from '#fornax/errors.js';
import { traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { functional as F, Linear, Module, type Tensor as Symbolic } from '#fornax/nn/index.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { collect, pointModel, type PointFiles, usePoints } from './support/points.js';

let root: PointFiles['root'];
let data: PointFiles['data'];
usePoints((made) => ({ root, data } = made));

const train = { epochs: 2, batchSize: 8, lr: 0.05, amp: 'off' as const };

test('a metric is averaged over the samples, whatever the batches', async () => {
  class Square extends Module {
    forward(output: Symbolic, label: Symbolic): Symbolic {
      return F.crossEntropy(output, label);
    }
  }
  using model = pointModel();
  const run = new Trainer({
    model,
    data,
    device: 'cpu',
    train,
    // 30 samples: the last batch is smaller than the others.
    eval: { batchSize: 7 },
    metrics: {
      per_sample: ({ output, label }) => output!.argmax(1).eq(label!),
      per_batch: ({ output, label }) => output!.argmax(1).eq(label!).to('float32').mean(),
      as_graph: traceLoss(new Square(), ['output', 'label']),
      other_output: ({ hidden }) => hidden!.mean(1),
      a_field: ({ target }) => target!,
    },
  });
  const events = await collect(run);
  const evaluations = events.filter((event) => event.type === 'evaluation');
  assert.equal(evaluations.length, 2);
  for (const { top1, loss, metrics } of evaluations) {
    assert.equal(metrics!.per_sample, top1);
    assert.ok(Math.abs(metrics!.per_batch! - top1!) < 1e-6);
    assert.ok(Math.abs(metrics!.as_graph! - loss!) < 1e-6);
    assert.ok(Number.isFinite(metrics!.other_output));
    assert.ok(Math.abs(metrics!.a_field! - 0.5) < 1e-6, 'labels 0, 1, 2 have the targets 0, 0.5 and 1');
  }
  assert.deepEqual(run.metrics!.metrics, evaluations.at(-1)!.metrics);
  assert.deepEqual(run.history.at(-1)!.evaluation!.metrics, evaluations.at(-1)!.metrics);
  assert.equal(model.info.metrics.per_sample, run.metrics!.metrics!.per_sample);
});

test('metrics are measured again where batch-norm statistics are computed anew at the end', async () => {
  using model = pointModel();
  const run = new Trainer({
    model,
    data,
    device: 'cpu',
    train: { ...train, bnRecompute: 3 },
    metrics: {
      confidence: ({ output, label }) => F.softmax(output!, 1).gather(1, label!.unsqueeze(1)).squeeze(1),
    },
  });
  await collect(run);
  const last = run.history.at(-1)!.evaluation!.metrics!.confidence!;
  const now = run.metrics!.metrics!.confidence!;
  assert.ok(now > 0 && now < 1 && now !== last, `${last} before, ${now} after`);
  assert.equal(model.info.metrics.confidence, now);
});

test('a metric chooses the best weights and stops early', async () => {
  const options = {
    data,
    device: 'cpu',
    train: { ...train, epochs: 6, lr: 1e-12, earlyStopping: { patience: 2 } },
    // Does not depend on the weights: the first evaluation stays the best.
    metrics: { constant: ({ target }) => target! },
    checkpoint: { monitor: 'constant', mode: 'min' },
  } satisfies Partial<TrainerOptions>;
  using model = pointModel();
  const run = new Trainer({ model, ...options, folder: path.join(root.path, 'best') });
  const events = await collect(run);
  assert.equal(run.stopped, 'early_stopping');
  assert.equal(run.history.length, 3);
  assert.equal(run.best!.epoch, 1);
  assert.equal(run.best!.value, run.history[0]!.evaluation!.metrics!.constant);
  assert.match(String(events.find(({ type }) => type === 'stopped')!.type), /stopped/);
  // A resume reads it from the checkpoint.
  using again = pointModel();
  const resumed = new Trainer({ model: again, ...options, folder: path.join(root.path, 'best') });
  await collect(resumed, { resume: true });
  assert.equal(resumed.stopped, 'early_stopping');
  assert.deepEqual(resumed.best, run.best);
});

test('a loss is a name, a list, a graph or a function', async () => {
  class Own extends Module {
    forward(output: Symbolic, label: Symbolic): Symbolic {
      return F.crossEntropy(output, label);
    }
  }
  const oneOutput = await memoryData({
    train: { x: { data: new Float32Array(96), shape: [24, 4] }, label: labels(24) },
  });
  const losses: TrainerOptions['loss'][] = [
    'cross_entropy',
    ['cross_entropy'],
    { name: 'cross_entropy' },
    traceLoss(new Own(), ['output', 'label']),
    ({ output, label }) => F.crossEntropy(output!, label!),
  ];
  const reached: number[] = [];
  for (const loss of losses) {
    using model = Model.create(new Linear(4, 3), { inputs: [{ name: 'x', shape: [2, 4] }] });
    const run = new Trainer({ model, data: oneOutput, device: 'cpu', train, ...(loss ? { loss } : {}) });
    await collect(run);
    reached.push(run.history.at(-1)!.loss);
  }
  for (const loss of reached) assert.equal(loss, reached[0]);
  oneOutput.dispose();
});

function labels(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i % 3);
}

test('data without classes are evaluated by the loss of the training', async () => {
  using regression = await memoryData({
    train: { x: [[1], [2], [3], [4]], target: [[2], [4], [6], [8]] },
    val: { x: [[5], [6]], target: [[10], [12]] },
  });
  using model = Model.create(new Linear(1, 1), { inputs: [{ name: 'x', shape: [2, 1] }] });
  const run = new Trainer({
    model,
    data: regression,
    device: 'cpu',
    train: { epochs: 60, batchSize: 4, lr: 0.02, weightDecay: 0, amp: 'off' },
    loss: 'mse',
    metrics: { mae: ({ output, target }) => output!.sub(target!).abs().mean(1) },
    checkpoint: { monitor: 'mae', mode: 'min' },
  });
  const events = await collect(run);
  const figures = run.metrics!;
  assert.equal(figures.top1, null);
  assert.equal(figures.samples, 2);
  assert.ok(figures.loss! < 0.5, `loss ${figures.loss}`);
  assert.ok(Math.abs(figures.metrics!.mae! ** 2 - figures.loss!) < 0.2);
  assert.ok(!('top1' in model.info.metrics));
  assert.equal(events.at(-1)!.type, 'done');
});

test('what is wrong with a loss or a metric is told before the first step', async () => {
  using model = pointModel();
  const attempt = async (
    options: Partial<TrainerOptions>,
    kind: new (...args: never[]) => Error,
    what: RegExp,
  ) => {
    const seen: string[] = [];
    await assert.rejects(
      async () => {
        const run = new Trainer({ model, data, device: 'cpu', train, ...options });
        for await (const { type } of run.fit()) seen.push(type);
      },
      (error) => error instanceof kind && what.test((error as Error).message),
    );
    assert.ok(!seen.includes('steps'));
  };
  await attempt(
    { metrics: { wrong: ({ outputs }) => outputs! } },
    ConfigError,
    /'outputs' is neither an output of the model \(output, hidden\).*metrics\.wrong.*did you mean 'output'/s,
  );
  await attempt(
    {
      metrics: {
        wrong: traceLoss(
          new (class extends Module {
            forward(logits: Symbolic): Symbolic {
              return logits.mean();
            }
          })(),
          ['logits'],
        ),
      },
    },
    ConfigError,
    /'logits' is neither/,
  );
  await attempt({ metrics: { wrong: ({ output }) => output! } }, ArgumentError, /\[3, 3\].*metrics\.wrong/s);
  await attempt({ metrics: { loss: ({ target }) => target! } }, ConfigError, /figure of its own/);
  await attempt({ metrics: { wrong: 3 as never } }, ConfigError, /function over the outputs/);
  await attempt(
    { loss: ({ output, labels }) => F.crossEntropy(output!, labels!) },
    ConfigError,
    /did you mean 'label'/,
  );
  await attempt({ checkpoint: { monitor: 'mae' } }, ConfigError, /top1, top5, loss.*"mae"/s);
  await attempt(
    {
      metrics: { mae: ({ target }) => target! },
      train: { ...train, earlyStopping: { patience: 1, monitor: 'mea' } },
    },
    ConfigError,
    /did you mean "mae"/,
  );
});

test('options that there are not are refused', () => {
  using model = pointModel();
  const wrong = (options: object, what: RegExp): void => {
    assert.throws(
      () => new Trainer({ model, data, ...options }),
      (error) => error instanceof ConfigError && what.test(error.message),
    );
  };
  wrong({ nproc: 2 }, /in the process of its script.*--nproc/s);
  wrong({ metric: {} }, /no option 'metric'.*did you mean 'metrics'/s);
  wrong({ loss: 'mse', train: { loss: 'mse' } }, /given twice/);
});

test('several processes are refused, not trained each for itself', async () => {
  using model = pointModel();
  const before = { ...process.env };
  Object.assign(process.env, {
    RANK: '0',
    WORLD_SIZE: '2',
    MASTER_ADDR: 'localhost',
    MASTER_PORT: '1',
  });
  try {
    await assert.rejects(
      collect(new Trainer({ model, data, device: 'cpu', train })),
      (error) => error instanceof ConfigError && /process 0 of 2/.test(error.message),
    );
  } finally {
    process.env = before;
  }
});
