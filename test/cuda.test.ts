/** Training on a GPU: CUDA graphs against ordinary steps, waits of the host, resume, the scaler, a memory budget. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadAddon } from '#fornax/native.js';
import type {
  NativeTrain,
  OptimizerOptions,
  RunResult,
  StepsEvent,
  TrainOptions,
} from '#fornax/native/contract.js';
import { readByHost } from './support/recorded_steps.js';
import { goldenBatch, goldenModel, openSession, type Batch } from './support/training_golden.js';

const { available } = loadAddon().systemInfo().cuda;
const skip = available ? false : 'no CUDA device';

const plain: Partial<TrainOptions> = {
  device: 'cuda:0',
  channels_last: true,
  schedule: { name: 'cosine', lr: 0.05, total_steps: 40 },
};

function batches(count: number, rows = 16): Batch[] {
  return Array.from({ length: count }, (_, i) => goldenBatch((i * rows) % (64 - rows), rows));
}

interface Trained {
  losses: number[];
  events: StepsEvent[];
  result: RunResult;
}

async function run(session: NativeTrain, source: Batch[]): Promise<Trained> {
  const events: StepsEvent[] = [];
  const result = await session.run(source, {
    steps: source.length,
    event_interval_ms: 0,
    onEvent: (event) => events.push(event),
  });
  return { result, events, losses: events.flatMap(({ losses }) => losses) };
}

async function train(options: Partial<TrainOptions>, source: Batch[], dropout = 0): Promise<Trained> {
  const session = openSession(goldenModel({ dropout }), { ...plain, ...options });
  try {
    return await run(session, source);
  } finally {
    session.dispose();
  }
}

for (const amp of ['off', 'bf16', 'fp16'] as const) {
  test(`CUDA graphs give the losses of ordinary steps, amp ${amp}`, { skip }, async () => {
    // cuDNN may choose other algorithms in another session, which round otherwise.
    const options = { amp, cudnn_benchmark: false, tf32: false };
    const source = [...batches(20), goldenBatch(0, 5), ...batches(6)];
    const off = await train({ ...options, cuda_graphs: 'off' }, source, 0.2);
    const on = await train({ ...options, cuda_graphs: 'on' }, source, 0.2);
    assert.equal(off.result.repeated, 0);
    assert.equal(on.result.repeated, 17 + 6);
    on.losses.forEach((loss, i) => assert.ok(Math.abs(loss - off.losses[i]!) < 1e-3, `step ${i}`));
  });
}

const optimizers: OptimizerOptions[] = [
  { name: 'sgd', momentum: 0.9, dampening: 0.3 },
  { name: 'adam' },
  { name: 'rmsprop', momentum: 0.9, centered: true },
  { name: 'adagrad', lr_decay: 0.1 },
  { name: 'radam' },
  { name: 'nadam' },
  { name: 'lion' },
  { name: 'lamb' },
  { name: 'lars', momentum: 0.9, nesterov: true },
];
for (const optimizer of optimizers) {
  for (const cycle_momentum of [false, true]) {
    if (cycle_momentum && optimizer.name === 'adagrad') continue; // has none
    const what = `${optimizer.name}, momentum ${cycle_momentum ? 'moved' : 'steady'}`;
    test(`CUDA graphs give the losses of ordinary steps: ${what}`, { skip }, async () => {
      const schedule = { name: 'one_cycle', max_lr: 0.001, total_steps: 40, cycle_momentum } as const;
      const options = { optimizer, schedule, nan_watch: {}, cudnn_benchmark: false, tf32: false };
      const off = await train({ ...options, cuda_graphs: 'off' }, batches(20), 0.2);
      const on = await train({ ...options, cuda_graphs: 'on', count_syncs: true }, batches(20), 0.2);
      assert.equal(on.result.repeated, 17);
      on.losses.forEach((loss, i) => assert.ok(Math.abs(loss - off.losses[i]!) < 1e-3, `step ${i}`));
    });
  }
}

test('sessions that train side by side record each its own steps', { skip }, async () => {
  // More than libtorch's pool has streams.
  const options = { cuda_graphs: 'on', cudnn_benchmark: false, deterministic: true } as const;
  const alone = await train(options, batches(12));
  const all = await Promise.all(Array.from({ length: 36 }, () => train(options, batches(12))));
  for (const { losses } of all) assert.deepEqual(losses, alone.losses);
});

test('after a step that could not be recorded others go on as usual, draws included', { skip }, async () => {
  const options = { loss: readByHost(), cudnn_benchmark: false, deterministic: true };
  const off = await train({ ...options, cuda_graphs: 'off' }, batches(12), 0.3);
  const { events, losses, result } = await train({ ...options, cuda_graphs: 'auto' }, batches(12), 0.3);
  assert.equal(result.repeated, 0);
  assert.match(events.map(({ declined }) => declined ?? '').join(''), /cannot be recorded/);
  assert.deepEqual(losses, off.losses);
});

for (const cuda_graphs of ['on', 'off'] as const) {
  test(`the host never waits between steps, CUDA graphs ${cuda_graphs}`, { skip }, async () => {
    const model = goldenModel({ dropout: 0.2 });
    const session = openSession(model, {
      ...plain,
      cuda_graphs,
      count_syncs: true,
      clip_norm: 1,
      ema: { warmup: true },
      amp: 'fp16',
    });
    await run(session, batches(8));
    const { result } = await run(session, batches(40));
    session.dispose();
    assert.equal(result.syncs, 0);
  });
}

test('a run resumed between graphs goes on with the very same numbers', { skip }, async () => {
  const options: Partial<TrainOptions> = { cuda_graphs: 'on', cudnn_benchmark: false, deterministic: true };
  const source = batches(20);
  const whole = await train(options, source, 0.3);
  const model = goldenModel({ dropout: 0.3 });
  const before = openSession(model, { ...plain, ...options });
  await run(before, source.slice(0, 11));
  const kept = before.snapshot();
  before.dispose();
  const after = openSession(model, { ...plain, ...options });
  after.restore(kept, 11);
  const { losses } = await run(after, source.slice(11));
  after.dispose();
  assert.deepEqual(losses, whole.losses.slice(11));
});

test('fp16: steps that overflow are skipped and counted inside of a graph', { skip }, async () => {
  const scaler = { init_scale: 2 ** 40, growth_interval: 4 };
  const { events, result } = await train({ amp: 'fp16', scaler, cuda_graphs: 'on' }, batches(30));
  assert.equal(result.repeated, 27);
  const skipped = events.map((event) => event.skipped!);
  assert.ok(skipped.at(-1)! > 3 && skipped.at(-1)! < 30);
});

test('a step beyond the budget is done in parts', { skip }, async () => {
  const { setMemoryBudget } = loadAddon();
  setMemoryBudget('cuda:0', 64 * 2 ** 20);
  try {
    const halved: number[] = [];
    const session = openSession(goldenModel(), { ...plain, on_oom: 'halve' });
    const large = Object.fromEntries(
      Object.entries(goldenBatch(0, 48)).map(([name, tensor]) => {
        const values = tensor.toTypedArray() as Float32Array | BigInt64Array;
        const repeated = new (values.constructor as new (length: number) => typeof values)(
          values.length * 64,
        );
        for (let i = 0; i < 64; i++) repeated.set(values as never, i * values.length);
        const [rows, ...rest] = tensor.shape;
        return [name, loadAddon().Tensor.fromTypedArray(repeated, [rows! * 64, ...rest])];
      }),
    );
    await session.run([large], { steps: 1, onOutOfMemory: ({ to }) => halved.push(to) });
    session.dispose();
    assert.ok(halved.length > 0);
  } finally {
    setMemoryBudget('cuda:0', null);
  }
});
