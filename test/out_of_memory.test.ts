/** A training step that runs out of memory: what it moved is put back, the same batch is tried in halves. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { DeviceError } from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import type { Modes, NativeTrain, OutOfMemoryEvent, TrainOptions } from '#fornax/native/contract.js';
import { goldenBatch, goldenModel, openSession, stateValues } from './support/training_golden.js';

const addon = loadAddon();
afterEach(() => addon.failCpuAllocations(null));
/** Rows of one batch. */
const ROWS = 16;

/** Batch norm with its running statistics. */
const frozen: Modes = { batch_norm: 'eval' };

/** Allocations of a step in which only those of at least `minBytes` count. */
async function countAllocations(work: () => Promise<unknown>, minBytes = 0): Promise<number> {
  addon.failCpuAllocations({ first: -1, min_bytes: minBytes });
  await work();
  return addon.failCpuAllocations(null);
}

interface Outcome {
  state: Record<string, Float32Array>;
  snapshot: Record<string, unknown>;
  losses: number[];
  events: OutOfMemoryEvent[];
  microBatch: number | null;
  /** Allocations while it ran. */
  allocations: number;
}

interface Run {
  options?: Partial<TrainOptions>;
  steps?: number;
  dropout?: number;
  /** The allocation of the first step to fail, and how many. */
  fail?: { first: number; count?: number; min_bytes?: number };
}

/** Trains on batches of memory and collects everything that must not depend on how. */
async function train({ options = {}, steps = 3, dropout = 0, fail }: Run): Promise<Outcome> {
  const model = goldenModel({ dropout });
  const session = openSession(model, { threads: 1, ...options });
  const losses: number[] = [];
  const events: OutOfMemoryEvent[] = [];
  const perStep = options.grad_accum ?? 1;
  const batches = Array.from({ length: steps * perStep }, (_, i) => goldenBatch((i * ROWS) % 64, ROWS));
  let allocations: number;
  addon.failCpuAllocations(fail ?? null);
  try {
    await session.run(batches, {
      steps,
      onEvent: (event) => losses.push(...event.losses),
      onOutOfMemory: (event) => events.push(event),
    });
  } finally {
    allocations = addon.failCpuAllocations(null);
  }
  const microBatch = session.microBatch;
  const entries = Object.entries(session.snapshot()).filter(([name]) => name !== 'memory/micro_batch');
  const snapshot = Object.fromEntries(
    entries.map(([name, tensor]) => [name, Array.from(tensor.toTypedArray() as Float32Array)]),
  );
  session.dispose();
  return { state: stateValues(model), snapshot, losses, events, microBatch, allocations };
}

function assertSame(actual: Outcome, expected: Outcome, what: string): void {
  for (const name of Object.keys(expected.state)) {
    assert.deepEqual(actual.state[name], expected.state[name], `${what}: ${name}`);
  }
  assert.deepEqual(actual.snapshot, expected.snapshot, `${what}: snapshot`);
  assert.deepEqual(actual.losses, expected.losses, `${what}: losses`);
}

async function gradientsOf(session: NativeTrain): Promise<Record<string, Float32Array>> {
  await session.step(goldenBatch(0, ROWS), { update: false });
  const entries = Object.entries(session.gradients());
  return Object.fromEntries(entries.map(([name, tensor]) => [name, tensor.toTypedArray() as Float32Array]));
}

function relativeDifference(a: Record<string, Float32Array>, b: Record<string, Float32Array>): number {
  let worst = 0;
  for (const [name, values] of Object.entries(a)) {
    const largest = Math.max(...values.map(Math.abs), 1e-6);
    values.forEach((value, i) => (worst = Math.max(worst, Math.abs(value - b[name]![i]!) / largest)));
  }
  return worst;
}

test('with frozen batch norm the gradients of a halved batch are those of the whole one', async () => {
  const whole = openSession(goldenModel(), { modes: frozen });
  const halved = openSession(goldenModel(), { modes: frozen });
  const expected = await gradientsOf(whole);
  const allocations = await countAllocations(() => gradientsOf(halved), 4096);
  addon.failCpuAllocations({ first: Math.floor(allocations / 2), min_bytes: 4096 });
  const actual = await gradientsOf(halved);
  addon.failCpuAllocations(null);
  assert.equal(halved.microBatch, ROWS / 2);
  assert.equal(whole.microBatch, null);
  const difference = relativeDifference(expected, actual);
  assert.ok(difference < 1e-5, `gradients differ by ${difference}`);
  whole.dispose();
  halved.dispose();
});

/** `stride`: only every so many allocations are tried, to save time. */
const settings: { name: string; run: Run; stride?: number }[] = [
  { name: 'frozen batch norm', run: { options: { modes: frozen } } },
  { name: 'batch norm, dropout', run: { dropout: 0.3 } },
  {
    name: 'accumulation, clipping, bf16, average',
    stride: 3,
    run: {
      dropout: 0.3,
      options: { grad_accum: 2, clip_norm: 0.5, amp: 'bf16', ema: {}, optimizer: { name: 'adamw' } },
      steps: 2,
    },
  },
];

for (const { name, run, stride = 1 } of settings) {
  test(`a failure at any allocation of a step leaves no trace but the halving: ${name}`, async () => {
    const plain = await train(run);
    const halved = await train({ ...run, options: { ...run.options, micro_batch: ROWS / 2 } });
    const { allocations: all } = await train({ ...run, steps: 1 });
    assert.ok(all > 40, `${all} allocations`);
    let halvings = 0;
    for (let first = 0; first < all; first += stride) {
      let outcome: Outcome;
      try {
        outcome = await train({ ...run, fail: { first } });
      } catch (error) {
        // Of the optimizer, whose update cannot be undone: said, and not trained on.
        assert.ok(error instanceof DeviceError, String(error));
        assert.match(error.message, /out of memory/);
        continue;
      }
      if (outcome.microBatch === null) assertSame(outcome, plain, `${name}, allocation ${first}, not halved`);
      else {
        halvings++;
        assert.equal(outcome.microBatch, ROWS / 2);
        assertSame(outcome, halved, `${name}, allocation ${first}`);
      }
    }
    assert.ok(halvings > (0.8 * all) / stride, `${halvings} of ${all} halved`);
  });
}

test('the event says where, how small the micro-batch is now, and that batch norm sees less', async () => {
  const { events } = await train({ fail: { first: 8 }, options: { grad_accum: 2 } });
  assert.equal(events.length, 1);
  const [event] = events;
  assert.match(event!.what, /out of memory/);
  assert.ok(event!.module !== null && event!.where.includes(event!.module), event!.where);
  const { step, from, to, parts, batch_norms } = event!;
  assert.deepEqual(
    { step, from, to, parts, batch_norms },
    { step: 1, from: 16, to: 8, parts: 4, batch_norms: 2 },
  );
  const frozenRun = await train({ fail: { first: 8 }, options: { modes: frozen } });
  assert.equal(frozenRun.events[0]!.batch_norms, 0);
});

test('memory that stays short is halved down to one image, then told', async () => {
  const model = goldenModel();
  const session = openSession(model, { modes: frozen });
  const before = stateValues(model);
  const events: OutOfMemoryEvent[] = [];
  const batch = goldenBatch(0, ROWS);
  // The generator's state is smaller: without it there is nothing to go back to.
  addon.failCpuAllocations({ first: 0, count: 1e6, min_bytes: 8192 });
  const run = session.run([batch], { steps: 1, onOutOfMemory: (event) => events.push(event) });
  await assert.rejects(run, (error: unknown) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.message, /out of memory.*step 1, micro-batch of one image/);
    assert.match(error.fix!, /smaller images/);
    return true;
  });
  addon.failCpuAllocations(null);
  assert.deepEqual(
    events.map(({ to }) => to),
    [8, 4, 2, 1],
  );
  assert.deepEqual(stateValues(model), before);
  // What was freed is enough for a smaller model, or the same one with more memory.
  await session.step(goldenBatch(0, ROWS));
  assert.equal(session.stepCount, 1);
  session.dispose();
});

test('on_oom: stop leaves the model as it was and says what to do', async () => {
  const model = goldenModel();
  const session = openSession(model, { on_oom: 'stop' });
  const batch = goldenBatch(0, ROWS);
  addon.failCpuAllocations({ first: 8 });
  await assert.rejects(session.run([batch], { steps: 1 }), (error: unknown) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.fix!, /grad_accum.*memory\.on_oom/);
    return true;
  });
  addon.failCpuAllocations(null);
  assert.equal(session.microBatch, null);
  assert.equal(session.stepCount, 0);
  session.dispose();
});

test('a snapshot carries the halved micro-batch, so that a resumed run computes the same', async () => {
  const [first, second] = [goldenModel({ dropout: 0.3 }), goldenModel({ dropout: 0.3 })];
  const one = openSession(first);
  const batch = goldenBatch(0, ROWS);
  addon.failCpuAllocations({ first: 8 });
  await one.step(batch);
  addon.failCpuAllocations(null);
  assert.equal(one.microBatch, ROWS / 2);
  const snapshot = one.snapshot();
  const entries = Object.fromEntries(first.state().map(({ name, tensor }) => [name, tensor]));
  second.loadState(entries);
  const two = openSession(second);
  two.restore(snapshot, 1);
  assert.equal(two.microBatch, ROWS / 2);
  for (const session of [one, two]) await session.step(goldenBatch(16, ROWS));
  assert.deepEqual(stateValues(second), stateValues(first));
  // A snapshot from before any halving gives whole batches back.
  const three = openSession(goldenModel());
  const whole = three.snapshot();
  assert.equal(whole['memory/micro_batch'], undefined);
  three.dispose();
  one.dispose();
  two.dispose();
});

test('memory that runs out in the update is told apart: it cannot be put back', async () => {
  // Layer-wise optimizers allocate in their update, and nothing else of a step does so little.
  const model = goldenModel();
  const session = openSession(model, { threads: 1, optimizer: { name: 'lamb' } });
  await session.step(goldenBatch(0, ROWS), { update: false });
  addon.failCpuAllocations({ first: -1 });
  await session.step(goldenBatch(0, ROWS), { update: false });
  const withoutUpdate = addon.failCpuAllocations(null);
  const batch = goldenBatch(0, ROWS);
  addon.failCpuAllocations({ first: withoutUpdate + 2 });
  await assert.rejects(session.step(batch), (error: unknown) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.message, /out of memory.*in the update of step 1, which is now half done/);
    assert.match(error.fix!, /last checkpoint/);
    return true;
  });
  session.dispose();
});
