/** Recomputing batch-norm statistics: against a plain computation, with dropout before it, and when it fails. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArgumentError, DataError, ExecutionError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { BatchNorm1d, Dropout, Linear, Sequential } from '#fornax/nn/index.js';
import { goldenBatch, goldenModel, stateValues } from './support/training_golden.js';

const { Graph, InferenceSession, Tensor } = loadAddon();

/** Dropout right before batch norm: where it stays active, variances come out too large. */
function dropoutBeforeNorm(): NativeGraph {
  const net = new Sequential({ drop: new Dropout(0.5), bn: new BatchNorm1d(2), fc: new Linear(2, 2) });
  const model = new Graph(trace(net, { inputs: [[4, 2]] }), { trusted: true });
  model.initialize(0);
  return model;
}

const rows = (values: number[][]): Record<string, NativeTensor> => ({
  image: Tensor.fromTypedArray(Float32Array.from(values.flat()), [values.length, values[0]!.length]),
});

function entry(model: NativeGraph, name: string): number[] {
  const found = model.state().find((one) => one.name === name);
  return Array.from(found!.tensor.toTypedArray() as Float32Array, Number);
}

test('statistics are those of the population, whatever the sizes of the batches; dropout is off', async () => {
  const model = dropoutBeforeNorm();
  const session = new InferenceSession(model, {});
  const data = [
    [1, 10],
    [2, 30],
    [4, 20],
    [9, 40],
    [4, 0],
  ];
  // Means differ between the batches: the mean of variances is not the variance.
  const result = await session.recomputeBatchNorm([rows(data.slice(0, 2)), rows(data.slice(2))]);
  assert.deepEqual(
    { layers: result.layers, inactive: result.inactive, batches: result.batches, samples: result.samples },
    { layers: 1, inactive: 1, batches: 2, samples: 5 },
  );
  assert.deepEqual(entry(model, 'bn.running_mean'), [4, 20]);
  entry(model, 'bn.running_var').forEach((variance, i) =>
    assert.ok(Math.abs(variance - [7.6, 200][i]!) < 1e-4, `${variance}`),
  );
  const tracked = model.state().find(({ name }) => name === 'bn.num_batches_tracked');
  assert.equal(Number((tracked!.tensor.toTypedArray() as BigInt64Array)[0]), 0);
});

test('with dropout active the statistics would be others', async () => {
  const model = dropoutBeforeNorm();
  const session = new InferenceSession(model, {});
  const many = Array.from({ length: 400 }, (_, i) => [1 + (i % 2), 1]);
  await session.forward(rows(many), { modes: { dropout: 'train', batch_norm: 'recompute' } });
  const wrong = entry(model, 'bn.running_var')[0]!;
  await session.recomputeBatchNorm([rows(many)]);
  const right = entry(model, 'bn.running_var')[0]!;
  assert.ok(Math.abs(right - 0.25) < 1e-6, `${right}`);
  assert.ok(wrong > 5 * right, `${wrong}`);
});

test('at most so many batches are used, and frozen modules keep their statistics', async () => {
  const model = goldenModel();
  const before = stateValues(model);
  const session = new InferenceSession(model, {});
  const batches = [goldenBatch(0, 16), goldenBatch(16, 16), goldenBatch(32, 16)];
  const progress: number[][] = [];
  const result = await session.recomputeBatchNorm(batches, {
    batches: 2,
    frozen: ['bn1'],
    onProgress: (done, total) => progress.push([done, total]),
  });
  assert.deepEqual([result.layers, result.batches], [1, 2]);
  const after = stateValues(model);
  assert.deepEqual(after['bn1.running_mean'], before['bn1.running_mean']);
  assert.notDeepEqual(after['bn2.running_mean'], before['bn2.running_mean']);
  assert.deepEqual(after['conv1.weight'], before['conv1.weight']);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(progress, [
    [1, 2],
    [2, 2],
  ]);
});

test('after a failure the model is as before', async () => {
  const model = dropoutBeforeNorm();
  const before = stateValues(model);
  const session = new InferenceSession(model, {});
  // A batch of one row has no variance.
  const broken = [rows([[1, 2], [3, 4]]), rows([[1, 2]])]; // prettier-ignore
  await assert.rejects(session.recomputeBatchNorm(broken), ExecutionError);
  assert.deepEqual(stateValues(model), before);
  await assert.rejects(session.recomputeBatchNorm([]), DataError);
  await assert.rejects(async () => session.recomputeBatchNorm([], { batches: 0 }), ArgumentError);
  const plain = new Graph(trace(new Linear(2, 2), { inputs: [[1, 2]] }), { trusted: true });
  plain.initialize(0);
  const without = new InferenceSession(plain, {});
  await assert.rejects(without.recomputeBatchNorm([rows([[1, 2]])]), /no batch norm/);
});
