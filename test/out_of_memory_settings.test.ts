/** Memory that runs out in a step that is mixed, repeated from a recording, averaged, scaled or taught. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { DeviceError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import { distillation, mse } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeGraph, NativeTensor, NativeTrain, TrainOptions } from '#fornax/native/contract.js';
import { BatchNorm1d, Linear, Module, type Tensor as Symbolic } from '#fornax/nn/index.js';
import { goldenBatch, goldenModel, openSession, stateValues } from './support/training_golden.js';

const addon = loadAddon();
afterEach(() => addon.failCpuAllocations(null));
const ROWS = 16;
const mix = { classes: 10, mixup: 0.2 };

interface Outcome {
  state: Record<string, Float32Array>;
  snapshot: Record<string, number[]>;
  halvings: string[];
  /** Allocations while it ran. */
  allocations: number;
  repeated: number;
}

/** Trains on batches of one size. `fail`: from the given step on, counted from 0. */
async function train(
  options: Partial<TrainOptions>,
  { steps = 2, failAt = 0, fail = null as Parameters<typeof addon.failCpuAllocations>[0] } = {},
): Promise<Outcome> {
  const model = goldenModel();
  const session = openSession(model, { threads: 1, ...options });
  const halvings: string[] = [];
  // Made before anything fails.
  const batches = Array.from({ length: steps }, (_, i) => goldenBatch((i * ROWS) % 64, ROWS));
  const run = (from: number, to: number): ReturnType<NativeTrain['run']> =>
    session.run(batches.slice(from, to), {
      steps: to - from,
      onOutOfMemory: ({ from, to }) => halvings.push(`${from}->${to}`),
    });
  const before = failAt > 0 ? (await run(0, failAt)).repeated : 0;
  addon.failCpuAllocations(fail ?? { first: -1 });
  let allocations: number;
  let repeated = before;
  try {
    repeated += (await run(failAt, steps)).repeated;
  } finally {
    allocations = addon.failCpuAllocations(null);
  }
  const entries = Object.entries(session.snapshot()).filter(([name]) => name !== 'memory/micro_batch');
  const snapshot = Object.fromEntries(
    entries.map(([name, tensor]) => [name, Array.from(tensor.toTypedArray() as Float32Array)]),
  );
  session.dispose();
  return { state: stateValues(model), snapshot, halvings, allocations, repeated };
}

for (const options of [{}, { tape: true }, { mix }, { tape: true, mix }]) {
  test(`a batch that does not fit is halved: ${JSON.stringify(options)}`, async () => {
    const fail = { first: 0, count: 2, min_bytes: 40000 };
    const { halvings } = await train({ fuse: false, channels_last: true, ...options }, { fail });
    assert.ok(halvings.length >= 1 && halvings[0] === '16->8', halvings.join());
  });
}

const settings: { name: string; options: Partial<TrainOptions> }[] = [
  { name: 'mixup', options: { mix } },
  { name: 'average of weights (SWA)', options: { swa: { start: 0 } } },
  { name: 'fp16 with a scaler', options: { amp: 'fp16' } },
  { name: 'teacher', options: { loss: distillation(), teacher: { graph: goldenModel() } } },
];
for (const { name, options } of settings) {
  test(`a failure at any allocation leaves no trace but the halving: ${name}`, async () => {
    const plain = await train(options);
    const halved = await train({ ...options, micro_batch: ROWS / 2 });
    const { allocations } = await train(options, { steps: 1 });
    assert.ok(allocations > 40, `${allocations} allocations`);
    let halvings = 0;
    for (let first = 0; first < allocations; first += 7) {
      let outcome: Outcome;
      try {
        outcome = await train(options, { fail: { first } });
      } catch (error) {
        assert.ok(error instanceof DeviceError, String(error));
        assert.match(error.message, /out of memory/);
        continue;
      }
      const expected = outcome.halvings.length === 0 ? plain : halved;
      halvings += outcome.halvings.length;
      assert.deepEqual(outcome.state, expected.state, `allocation ${first}`);
      assert.deepEqual(outcome.snapshot, expected.snapshot, `allocation ${first}`);
    }
    assert.ok(halvings > 3, `${halvings} halvings`);
  });
}

test('a repeated step that runs out of memory is applied once, and steps are recorded again', async () => {
  const options: Partial<TrainOptions> = { tape: true, ema: {}, on_oom: 'halve' };
  const shape = { steps: 14, failAt: 6 };
  const plain = await train(options, shape);
  assert.ok(plain.repeated > 4, `${plain.repeated} repeated`);
  const once = await train(options, { steps: 7, failAt: 6 });
  let tried = 0;
  for (let first = 0; first < once.allocations; first++) {
    let outcome: Outcome;
    try {
      outcome = await train(options, { ...shape, fail: { first } });
    } catch (error) {
      // A tape, unlike a device, takes memory while it repeats.
      assert.match(String(error), /a repeated step is half done/);
      continue;
    }
    if (outcome.halvings.length > 0) continue; // computes something else
    tried++;
    assert.deepEqual(outcome.state, plain.state, `allocation ${first} of ${once.allocations}`);
    assert.deepEqual(outcome.snapshot, plain.snapshot, `allocation ${first}`);
    assert.ok(outcome.repeated > 0);
  }
  assert.ok(tried > 1, `${tried} of ${once.allocations} tried again`);
});

test('beside a recording a batch of another size that does not fit is tried without it, not halved', async () => {
  const trained = async (fails: boolean): Promise<[string[], number, Record<string, Float32Array>]> => {
    const model = goldenModel();
    const session = openSession(model, { threads: 1, tape: true, on_oom: 'halve' });
    const halvings: string[] = [];
    const onOutOfMemory = ({ from, to }: { from: number; to: number }): void =>
      void halvings.push(`${from}->${to}`);
    const some = Array.from({ length: 12 }, (_, i) => goldenBatch(4 * i, ROWS));
    const odd = goldenBatch(0, ROWS - 1);
    let { repeated } = await session.run(some.slice(0, 6), { steps: 6 });
    assert.equal(repeated, 3);
    if (fails) addon.failCpuAllocations({ first: 0, count: 1, min_bytes: 40000 });
    try {
      await session.run([odd], { steps: 1, onOutOfMemory });
    } finally {
      addon.failCpuAllocations(null);
    }
    ({ repeated } = await session.run(some.slice(6), { steps: 6, onOutOfMemory }));
    session.dispose();
    return [halvings, repeated, stateValues(model)];
  };
  const [halvings, repeated, state] = await trained(true);
  const [, whole, expected] = await trained(false);
  assert.deepEqual(halvings, []);
  assert.deepEqual([repeated, whole], [3, 6], 'it is recorded anew');
  assert.deepEqual(state, expected);
});

class WithBatchNorm extends Module {
  readonly first = new Linear(4, 4096);
  readonly norm = new BatchNorm1d(4096);
  readonly head = new Linear(4096, 2);

  forward(x: Symbolic): Symbolic {
    return this.head.forward(this.norm.forward(this.first.forward(x)));
  }
}

function withBatchNorm(): NativeGraph {
  const graph = trace(new WithBatchNorm(), { inputs: [{ name: 'image', shape: [4, 4] }] });
  const model = new addon.Graph(graph, { trusted: true });
  model.initialize(0);
  return model;
}

function rows(count: number): Record<string, NativeTensor> {
  const tensor = (width: number): NativeTensor =>
    addon.Tensor.fromTypedArray(
      Float32Array.from({ length: width * count }, (_, i) => Math.sin(i)),
      [count, width],
    );
  return { image: tensor(4), target: tensor(2) };
}

test('batch norm over single values is never given a part of one row', async () => {
  const options = { loss: mse(), schedule: { name: 'constant', lr: 1e-3 } } as Partial<TrainOptions>;
  const split = openSession(withBatchNorm(), { ...options, micro_batch: 2 });
  for (const count of [2, 3, 5, 7]) assert.ok(Number.isFinite((await split.step(rows(count))).loss));
  assert.equal((await split.trial(rows(4), { rows: 1 })).fits, false);
  assert.equal((await split.trial(rows(4), { rows: 2 })).fits, true);
  split.dispose();

  const short = openSession(withBatchNorm(), options);
  const halvings: number[] = [];
  addon.failCpuAllocations({ first: 0, count: 1000, min_bytes: 4096 * 4 * 2 });
  await assert.rejects(
    short.run([rows(4)], { steps: 1, onOutOfMemory: ({ to }) => halvings.push(to) }),
    (error: unknown) => error instanceof DeviceError && /batch norm needs more than one/.test(error.fix!),
  );
  addon.failCpuAllocations(null);
  assert.deepEqual(halvings, [2]);
  short.dispose();
});
