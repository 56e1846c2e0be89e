/**
 * Equal runs give equal bits. On a CPU that holds anyway, for a seed and a number of threads; the setting is for GPUs,
 * and is refused where it cannot hold.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import { ArgumentError, ConfigError, DeviceError, ExecutionError } from '#fornax/errors.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import { call, functional as F } from '#fornax/nn/index.js';
import { describeSettings } from '#fornax/train/devices.js';
import { processOptions } from '#fornax/train/deterministic.js';
import { Trainer } from '#fornax/train/trainer.js';

import { collect, pointData, pointModel } from './support/points.js';
import { logOf, weightsOf } from './support/run_results.js';
import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns({
  model: { name: 'tiny_cnn', options: { dropout: 0.3 } },
  train: { epochs: 2, ema: { decay: 0.9 } },
});

function settings(name: string, workers: number, deterministic = false): ReturnType<typeof tiny.config> {
  const config = tiny.config(name, { train: { deterministic } });
  return {
    ...config,
    data: {
      ...config.data,
      workers,
      augment: { ...config.data.augment, crop: 'random_resized_crop', hflip: 0.5 },
    },
  };
}

test('a run is the same bits again: augmentation, dropout, any number of loader threads, the mode on or off', async () => {
  const results: unknown[] = [];
  for (const [name, workers, deterministic] of [
    ['one', 1, false],
    ['three', 3, false],
    ['again', 3, false],
    ['mode', 2, true],
  ] as const) {
    const { outcome } = await tiny.run(settings(name, workers, deterministic));
    results.push([await weightsOf(outcome.modelPath!), await logOf(tiny.folder(name))]);
  }
  for (const result of results) assert.deepEqual(result, results[0]);
  // Another seed is another run.
  const other = settings('seed', 1, true);
  const { outcome } = await tiny.run({ ...other, train: { ...other.train, seed: 1 } });
  assert.notDeepEqual(await weightsOf(outcome.modelPath!), (results[0] as unknown[])[0]);
});

test('nothing is decided by timing then: amp auto is float32 on a CPU', async () => {
  const { outcome, events } = await tiny.run(
    tiny.config('auto', { train: { deterministic: true, amp: 'auto' } }),
  );
  assert.equal(outcome.status, 'done');
  const device = events.find((event) => event.type === 'device' && event.phase === 'train');
  assert.match(JSON.stringify(device), /fp32 \(amp auto: deterministic/);
  assert.ok(!events.some(({ type }) => type === 'precision'));
});

test('an operator that has no deterministic variant ends the run and is named', async () => {
  using data = await pointData(24, 6);
  using model = pointModel();
  const run = new Trainer({
    model,
    data,
    device: 'cpu',
    train: { epochs: 1, batchSize: 8, lr: 0.1, amp: 'off', deterministic: true },
    // Where an index comes twice, the last write wins, whichever that is.
    loss: ({ output, label }) =>
      F.crossEntropy(output!, label!).add(
        call('aten::put', [output!.flatten(0), label!, output!.select(1, 0), false]).mean(),
      ),
  });
  await assert.rejects(
    collect(run),
    (error) =>
      error instanceof ExecutionError &&
      /put/.test(error.message) &&
      /does not have a deterministic implementation/.test(error.message),
  );
});

test('it belongs to the process: a session that contradicts it is refused', () => {
  using model = pointModel();
  const { TrainSession } = loadAddon();
  const open = (changes: object): void => {
    const parameters = model.graph.parameters.filter(({ kind }) => kind === 'parameter');
    new TrainSession(model.native, {
      device: 'cpu',
      loss: crossEntropy(),
      optimizer: { name: 'sgd' },
      groups: [{ parameters: parameters.map(({ name }) => name), weight_decay: 0 }],
      schedule: { name: 'constant', lr: 0.1 },
      ...changes,
    }).dispose();
  };
  assert.throws(() => open({ deterministic: true, cudnn_benchmark: true }), ArgumentError);
  open({ deterministic: true });
  assert.throws(
    () => open({ deterministic: false }),
    (error) => error instanceof DeviceError && /deterministic/.test(error.what),
  );
  assert.throws(
    () => open({ cudnn_benchmark: true }),
    (error) => error instanceof DeviceError && /cudnn_benchmark/.test(error.what),
  );
});

test('the benchmark of cuDNN, which goes by timing, is off then', () => {
  const train = (changes: object): ReturnType<typeof defineConfig>['train'] =>
    defineConfig({ data: { source: 'shapes' }, train: changes }).train;
  assert.deepEqual(processOptions(train({}), 'cuda:0'), { cudnn_benchmark: true });
  assert.deepEqual(processOptions(train({ deterministic: true }), 'cuda:0'), {
    deterministic: true,
    cudnn_benchmark: false,
  });
  assert.deepEqual(processOptions(train({ cudnnBenchmark: false }), 'cuda:0'), { cudnn_benchmark: false });
  assert.deepEqual(processOptions(train({}), 'cpu'), {});
  assert.throws(
    () => train({ deterministic: true, cudnnBenchmark: true }),
    (error) =>
      error instanceof ConfigError &&
      /train\.cudnn_benchmark.*chooses its algorithms by timing/s.test(error.message),
  );
  assert.throws(
    () => train({ deterministic: true, batchSize: 'auto' }),
    (error) => error instanceof ConfigError && /train\.batch_size.*memory that is free/s.test(error.message),
  );
  const info = loadAddon().systemInfo();
  const cpu = { device: 'cpu', type: 'cpu', name: 'x', requested: 'cpu' } as const;
  assert.match(describeSettings(train({ deterministic: true }), cpu, info), /deterministic/);
});

test('cuBLAS is told before it is opened', () => {
  loadAddon();
  // process.env of Node shows the environment of the process, which the loader has changed.
  assert.equal(process.env['CUBLAS_WORKSPACE_CONFIG'], ':4096:8');
  assert.ok(path.isAbsolute(tiny.root));
});
