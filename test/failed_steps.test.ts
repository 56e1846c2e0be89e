/** Native sessions after something was refused: no trace of it is left, and what was done is told. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

import { trace } from '#fornax/graph/trace.js';
import { mse } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeGraph, NativeTrain } from '#fornax/native/contract.js';
import { Linear, Module, type Tensor } from '#fornax/nn/index.js';

import {
  type Batch,
  goldenBatch,
  goldenModel,
  openSession,
  parameterGroups,
} from './support/training_golden.js';

const labels = (values: readonly number[]): Batch['label'] =>
  loadAddon().Tensor.fromTypedArray(BigInt64Array.from(values, BigInt), [values.length]);

/** A batch that the loss refuses, once forward is through. */
function badBatch(size = 8): Batch {
  return { ...goldenBatch(0, size), label: labels(Array.from({ length: size }, () => 99)) };
}

/** Statistics and counters of batch norm, and the generator. */
function traces(model: NativeGraph, session: NativeTrain): unknown {
  const buffers = model.state().filter(({ kind }) => kind === 'buffer');
  return {
    buffers: buffers.map(({ name, tensor }) => [name, Array.from(tensor.toTypedArray(), String)]),
    generator: Array.from(session.snapshot()['generator']!.toTypedArray(), String),
  };
}

const jobs: Record<string, (session: NativeTrain) => Promise<unknown>> = {
  'a trial': (session) => session.trial(badBatch(), { rows: 8 }),
  'a diagnosis': (session) => session.diagnose([badBatch()]),
  'a step': (session) => session.step(badBatch()),
  'a run': (session) => session.run([badBatch()], { steps: 1 }),
};

for (const [name, job] of Object.entries(jobs)) {
  test(`${name} on a batch that the loss refuses leaves no trace`, async () => {
    const losses: number[][] = [];
    for (const fails of [false, true]) {
      const model = goldenModel({ dropout: 0.2 });
      const session = openSession(model, { threads: 1, nan_watch: {} });
      const before = traces(model, session);
      if (fails) await assert.rejects(job(session), /bounds|99/);
      assert.deepEqual(traces(model, session), before);
      const told: number[] = [];
      const batches = [0, 8, 16].map((first) => goldenBatch(first, 8));
      await session.run(batches, { steps: 3, onEvent: (event) => told.push(...event.losses) });
      losses.push(told);
      session.dispose();
    }
    assert.equal(losses[0]!.length, 3);
    assert.deepEqual(losses[1], losses[0]);
  });
}

test('a run that fails has told of the steps before', async () => {
  const session = openSession(goldenModel(), { threads: 1 });
  const told: number[] = [];
  const batches = [goldenBatch(0, 8), goldenBatch(8, 8), badBatch()];
  await assert.rejects(
    session.run(batches, {
      steps: 3,
      event_interval_ms: 60_000,
      onEvent: ({ losses }) => told.push(...losses),
    }),
  );
  assert.equal(session.stepCount, 2);
  assert.equal(told.length, 2);
  session.dispose();
});

/** As many layers as a retrace happens to have. */
class Layers extends Module {
  readonly layer = new Linear(4, 4);
  constructor(private readonly count: number) {
    super();
  }
  forward(x: Tensor): Tensor {
    let y = x;
    for (let i = 0; i < this.count; i++) y = this.layer.forward(y);
    return y;
  }
}

test('a trace that does not fit is refused every time, and not replaced by the one before', async () => {
  const addon = loadAddon();
  const traced = (count: number) => trace(new Layers(count), { inputs: [{ name: 'image', shape: [2, 4] }] });
  const model = new addon.Graph(traced(2), { trusted: true });
  model.initialize(0);
  const [, second] = addon.precisionNodes(model);
  const session = openSession(model, {
    loss: mse(),
    groups: parameterGroups(model),
    precision: { bf16: [second!.name] },
  });
  const values = addon.Tensor.fromTypedArray(
    Float32Array.from({ length: 8 }, (_, i) => Math.cos(i)),
    [2, 4],
  );
  await session.step({ image: values, target: values });
  model.replaceGraph(traced(1));
  for (let i = 0; i < 2; i++) {
    await assert.rejects(session.step({ image: values, target: values }), /precision|bf16|node/);
  }
  session.dispose();
});

test('batches that are split need as many rows in each field', async () => {
  const session = openSession(goldenModel(), { micro_batch: 2 });
  const batch = { label: goldenBatch(0, 4)['label']!, image: goldenBatch(0, 8)['image']! };
  await assert.rejects(session.step(batch), {
    name: 'DataError',
    message: /as many rows in each field: 8 instead of 4/,
  });
  session.dispose();
});

test('offsets of ragged fields must rise, and lie within the values', async () => {
  const session = openSession(goldenModel(), { micro_batch: 2 });
  const boxes = loadAddon().Tensor.fromTypedArray(new Float32Array(12), [3, 4]);
  for (const offsets of [
    [0, 2, 1, 3, 3],
    [0, 1, 2, 3, 4],
  ]) {
    const batch = { ...goldenBatch(0, 4), face_offsets: labels(offsets), face_boxes: boxes };
    await assert.rejects(session.step(batch), { name: 'DataError', message: /offsets must not fall/ });
  }
  session.dispose();
});

/** A row for each sample, and one number for all. */
class TwoOutputs extends Module {
  readonly layer = new Linear(4, 4);
  forward(x: Tensor): Record<string, Tensor> {
    const output = this.layer.forward(x);
    return { output, mean: output.mean() };
  }
}

test('outputs of a step that is split have the rows of the whole batch, where they have rows', async () => {
  const addon = loadAddon();
  const graph = trace(new TwoOutputs(), { inputs: [{ name: 'image', shape: [4, 4] }] });
  const values = addon.Tensor.fromTypedArray(
    Float32Array.from({ length: 16 }, (_, i) => Math.cos(i)),
    [4, 4],
  );
  const outputs: Record<string, number[]>[] = [];
  for (const options of [{}, { micro_batch: 2 }, { grad_accum: 2 }]) {
    const model = new addon.Graph(graph, { trusted: true });
    model.initialize(0);
    const session = openSession(model, {
      loss: mse(),
      groups: parameterGroups(model),
      threads: 1,
      ...options,
    });
    const result = await session.step({ image: values, target: values });
    outputs.push(
      Object.fromEntries(
        Object.entries(result.outputs).map(([name, tensor]) => [
          name,
          Array.from(tensor.toTypedArray(), Number),
        ]),
      ),
    );
    session.dispose();
  }
  for (const split of outputs.slice(1)) {
    assert.equal(split['output']!.length, 16);
    for (const [i, value] of split['output']!.entries()) {
      assert.ok(Math.abs(value - outputs[0]!['output']![i]!) < 1e-6);
    }
    // Of the last part.
    const mean = split['output']!.slice(8).reduce((sum, value) => sum + value, 0) / 8;
    assert.ok(Math.abs(split['mean']![0]! - mean) < 1e-6);
  }
});

test('nothing is computed on the device meta', () => {
  const expected = { name: 'DeviceError', message: /'meta'/ };
  assert.throws(() => openSession(goldenModel(), { device: 'meta' }), expected);
  assert.throws(() => loadAddon().deviceMemory('meta'), expected);
});

test('snapshots with an impossible micro-batch are refused', () => {
  const session = openSession(goldenModel());
  for (const values of [[-3], [0], [3, 3]]) {
    const entry = { 'memory/micro_batch': labels(values) };
    assert.throws(() => session.restore({ ...session.snapshot(), ...entry }, 0), {
      name: 'WeightsError',
      message: /memory\/micro_batch/,
    });
  }
  session.dispose();
});

test('mixing names a label that the model has no class for', async () => {
  for (const label of [-1, 10]) {
    const session = openSession(goldenModel(), { mix: { classes: 10, mixup: 0.2 } });
    const batch = { ...goldenBatch(0, 2), label: labels([3, label]) };
    await assert.rejects(session.step(batch), {
      name: 'DataError',
      message: new RegExp(`label ${label} is outside 0…9`),
    });
    session.dispose();
  }
});

test('settings of the process are those of sessions that opened', () => {
  assert.throws(() => openSession(goldenModel(), { deterministic: true, groups: [] }));
  openSession(goldenModel(), { deterministic: false }).dispose();
});

test('numbers of threads are not cut down to 32 bits', () => {
  assert.throws(() => openSession(goldenModel(), { threads: 2 ** 32 + 1 }), /threads/);
});

test('cosine restarts whose period outgrows all numbers end', () => {
  const schedule = { name: 'cosine_restarts', lr: 1, min_lr: 0, t_0: 4096, t_mult: 2 ** 52 } as const;
  const session = openSession(goldenModel(), { schedule });
  assert.ok(session.learningRate(5000) > 0.99);
  session.dispose();
});

test('a session answers also while the process ends', () => {
  const support = new URL('./support/training_golden.js', import.meta.url).href;
  const script = `
    const { goldenModel, openSession } = await import(${JSON.stringify(support)});
    const session = openSession(goldenModel(), { micro_batch: 4 });
    process.on('exit', () => {
      console.log(session.stepCount, session.learningRate(0), session.microBatch);
    });
    process.exit(0);`;
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  assert.equal(out.trim(), '0 0.05 4');
});
