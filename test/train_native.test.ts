/** The native training session: optimizers, schedules, precision, resume, stopping, errors. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import {
  AbortedError,
  ArgumentError,
  DataError,
  DisposedError,
  ExecutionError,
  TrainError,
  WeightsError,
} from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import { mse } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor, NativeTrain, ScheduleOptions, TrainOptions } from '#fornax/native/contract.js';
import { Linear } from '#fornax/nn/index.js';
import { fillInput } from './conformance/fill.js';
import {
  caseOptions,
  golden,
  goldenBatch,
  goldenModel,
  openSession,
  stateValues,
  type TrainingCase,
} from './support/training_golden.js';

/** PyTorch's trajectories that the native optimizers must follow. */
const cases = [
  'sgd',
  'sgd_nesterov',
  'adam',
  'adamw',
  'adamw_no_decay',
  'adamw_amsgrad',
  'clip',
  'clip_value',
  'accumulate',
  'smoothing',
  'onecycle',
];

function assertClose(actual: number, expected: number, tolerance: number, what: string): void {
  const difference = Math.abs(actual - expected);
  assert.ok(difference <= tolerance, `${what}: ${actual}, expected ${expected} ± ${tolerance}`);
}

async function logitsOf(model: ReturnType<typeof goldenModel>): Promise<Float32Array> {
  const inference = new (loadAddon().InferenceSession)(model, {});
  const { output } = await inference.forward({ image: goldenBatch(0, 2).image! });
  inference.dispose();
  return output!.toTypedArray() as Float32Array;
}

async function assertTrajectory(expected: TrainingCase): Promise<void> {
  const model = goldenModel();
  const session = openSession(model, caseOptions(model, expected.settings));
  const rows = (expected.settings.batch_size ?? 16) * (expected.settings.accumulate ?? 1);
  const lossTolerance = Math.max(1e-4, 5 * expected.dev.losses);
  for (let step = 0; step < expected.losses.length; step++) {
    const { loss, lr, grad_norm } = await session.step(goldenBatch((step * rows) % 64, rows));
    assertClose(loss, expected.losses[step]!, lossTolerance * expected.losses[step]!, `loss ${step}`);
    assertClose(lr, expected.lrs[step]!, 1e-9, `rate ${step}`);
    const norm = expected.grad_norms?.[step];
    if (norm !== undefined) assertClose(grad_norm!, norm, 1e-4 * norm, `gradient norm ${step}`);
  }
  assert.equal(session.stepCount, expected.losses.length);
  session.dispose();
  const state = stateValues(model);
  assert.deepEqual(Object.keys(state), Object.keys(expected.state));
  for (const [name, [sum, norm]] of Object.entries(expected.state)) {
    const values = state[name]!;
    const tolerance = Math.max(1e-3, 5 * expected.dev.state) * norm;
    assertClose(
      values.reduce((total, value) => total + value, 0),
      sum,
      tolerance,
      `sum of ${name}`,
    );
    assertClose(Math.hypot(...values), norm, tolerance, `norm of ${name}`);
  }
  const logits = await logitsOf(model);
  const largest = Math.max(...expected.eval_logits0.map(Math.abs));
  const tolerance = Math.max(1e-3, 5 * expected.dev.eval_logits0) * largest;
  expected.eval_logits0.forEach((value, i) => assertClose(logits[i]!, value, tolerance, `logit ${i}`));
}

for (const name of cases) {
  test(`follows PyTorch's trajectory: ${name}`, () => assertTrajectory(golden.cases[name]!));
}

test("schedules equal PyTorch's to 1e-9", () => {
  const model = goldenModel();
  const { base_lr: lr } = golden.schedules;
  const described: Record<string, (settings: Record<string, unknown>) => ScheduleOptions | null> = {
    cosine: (s) => ({
      name: 'cosine',
      lr,
      min_lr: s['eta_min'] as number,
      total_steps: s['T_max'] as number,
    }),
    one_cycle: (s) =>
      s['three_phase'] === true
        ? null
        : { name: 'one_cycle', max_lr: s['max_lr'] as number, total_steps: s['total_steps'] as number },
    linear_warmup_cosine: (s) => ({
      name: 'cosine',
      lr,
      total_steps: (s['warmup_steps'] as number) + (s['t_max'] as number),
      warmup_steps: s['warmup_steps'] as number,
      warmup_start: s['start_factor'] as number,
    }),
  };
  let compared = 0;
  for (const { settings, lrs } of golden.schedules.cases) {
    const schedule = described[settings.name]?.(settings);
    if (!schedule) continue;
    const session = openSession(model, { schedule });
    lrs.forEach((rate, i) => assertClose(session.learningRate(i), rate, 1e-9, `${settings.name} at ${i}`));
    session.dispose();
    compared++;
  }
  assert.equal(compared, 3);
});

test('a schedule stays at its last rate after its end', () => {
  const session = openSession(goldenModel(), {
    schedule: { name: 'cosine', lr: 0.1, min_lr: 0.001, total_steps: 20, warmup_steps: 4 },
  });
  assertClose(session.learningRate(0), 0.001, 1e-12, 'first rate');
  assertClose(session.learningRate(4), 0.1, 1e-12, 'rate after the warm-up');
  assertClose(session.learningRate(20), 0.001, 1e-12, 'last rate');
  assert.equal(session.learningRate(1000), session.learningRate(20));
  session.dispose();
});

test('a constant rate can be warmed up', () => {
  const schedule: ScheduleOptions = { name: 'constant', lr: 0.1, warmup_steps: 10, warmup_start: 0 };
  const session = openSession(goldenModel(), { schedule });
  assert.deepEqual(
    [0, 5, 10, 50].map((step) => session.learningRate(step)),
    [0, 0.05, 0.1, 0.1],
  );
  session.dispose();
});

/** The network with dropout, so that the generator matters. */
const dropout = { dropout: 0.4 };

test('snapshot and restore continue bit for bit', async () => {
  const options: Partial<TrainOptions> = {
    optimizer: { name: 'adamw', amsgrad: true },
    seed: 5,
    clip_norm: 1,
  };
  const train = async (session: NativeTrain, from: number, to: number): Promise<void> => {
    for (let step = from; step < to; step++) await session.step(goldenBatch((step * 16) % 64, 16));
  };
  const whole = goldenModel(dropout);
  const uninterrupted = openSession(whole, options);
  await train(uninterrupted, 0, 7);
  uninterrupted.dispose();

  const first = goldenModel(dropout);
  const interrupted = openSession(first, options);
  await train(interrupted, 0, 3);
  const snapshot = interrupted.snapshot();
  const weights = Object.fromEntries(first.state().map(({ name, tensor }) => [name, tensor]));
  interrupted.dispose();

  const second = goldenModel(dropout);
  second.loadState(weights);
  const resumed = openSession(second, { ...options, seed: 99 });
  resumed.restore(snapshot, 3);
  assert.equal(resumed.stepCount, 3);
  await train(resumed, 3, 7);
  resumed.dispose();
  assert.deepEqual(stateValues(second), stateValues(whole));
});

test('the seed decides what dropout draws', async () => {
  const lossWith = async (seed: number): Promise<number> => {
    const session = openSession(goldenModel(dropout), { seed });
    const { loss } = await session.step(goldenBatch(0, 16));
    session.dispose();
    return loss;
  };
  assert.equal(await lossWith(1), await lossWith(1));
  assert.notEqual(await lossWith(1), await lossWith(2));
});

test('restore refuses a snapshot of another optimizer and changes nothing', async () => {
  const model = goldenModel();
  const adam = openSession(model, { optimizer: { name: 'adam' } });
  await adam.step(goldenBatch(0, 16));
  const foreign = adam.snapshot();
  adam.dispose();
  const sgd = openSession(model);
  await sgd.step(goldenBatch(0, 16));
  const before = tensorValues(sgd.snapshot());
  assert.throws(() => sgd.restore(foreign, 1), WeightsError);
  const { generator, ...incomplete } = sgd.snapshot();
  assert.ok(generator);
  assert.throws(() => sgd.restore(incomplete, 1), /`generator` is missing/);
  assert.deepEqual(tensorValues(sgd.snapshot()), before);
  assert.equal(sgd.stepCount, 1);
  sgd.dispose();
});

test('without update, a step leaves the weights alone and gives loss, outputs and gradients', async () => {
  const model = goldenModel();
  const session = openSession(model);
  const before = stateValues(model)['fc.weight'];
  const { loss, grad_norm, outputs } = await session.step(goldenBatch(0, 16), { update: false });
  assert.deepEqual(stateValues(model)['fc.weight'], before);
  assert.equal(session.stepCount, 0);
  assertClose(loss, golden.cases['sgd']!.losses[0]!, 1e-4, 'loss');
  assert.deepEqual(outputs['output']!.shape, [16, 10]);
  const squares = Object.values(session.gradients())
    .flatMap((tensor) => Array.from(tensor.toTypedArray() as Float32Array))
    .reduce((sum, value) => sum + value * value, 0);
  assertClose(Math.sqrt(squares), grad_norm!, 1e-5, 'norm of the gradients');
  session.dispose();
});

test('parameters in no group are frozen', async () => {
  const model = goldenModel();
  const session = openSession(model, {
    groups: [{ parameters: ['fc.weight', 'fc.bias'], weight_decay: 0 }],
    modes: { overrides: [{ prefix: 'bn1', mode: 'eval' }] },
  });
  const before = stateValues(model);
  await session.step(goldenBatch(0, 16));
  const after = stateValues(model);
  assert.deepEqual(Object.keys(session.gradients()), ['fc.weight', 'fc.bias']);
  const changed = Object.keys(after).filter((name) => !isDeepStrictEqual(after[name], before[name]));
  assert.deepEqual(changed, ['bn2.running_mean', 'bn2.running_var', 'fc.weight', 'fc.bias']);
  session.dispose();
});

test('a group scales the rate for its parameters', async () => {
  const update = async (scale: number): Promise<number> => {
    const model = goldenModel();
    const session = openSession(model, {
      groups: [{ parameters: ['fc.bias'], weight_decay: 0, lr_scale: scale }],
    });
    const before = stateValues(model)['fc.bias']![0]!;
    await session.step(goldenBatch(0, 16));
    session.dispose();
    return stateValues(model)['fc.bias']![0]! - before;
  };
  assertClose((await update(3)) / (await update(1)), 3, 1e-3, 'ratio of the updates');
});

test('a large linear layer has the gradients that its formula says', async () => {
  // Large enough for the product that goes through oneDNN. loss = mean((x·Wᵀ + b − t)²)
  const [rows, inputs, outputs] = [128, 64, 300] as const;
  const { Graph, Tensor } = loadAddon();
  const model = new Graph(
    trace(new Linear(inputs, outputs), { inputs: [{ name: 'x', shape: [rows, inputs] }] }),
    {
      trusted: true,
    },
  );
  model.initialize(3);
  const session = openSession(model, { loss: mse() });
  const x = fillInput(rows * inputs, 1);
  const target = fillInput(rows * outputs, 2);
  await session.step(
    { x: Tensor.fromTypedArray(x, [rows, inputs]), target: Tensor.fromTypedArray(target, [rows, outputs]) },
    { update: false },
  );
  const { weight, bias } = session.gradients();
  const W = stateValues(model)['weight']!;
  const b = stateValues(model)['bias']!;
  const ofWeight = new Float64Array(outputs * inputs);
  const ofBias = new Float64Array(outputs);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < outputs; k++) {
      let y = b[k]!;
      for (let j = 0; j < inputs; j++) y += x[i * inputs + j]! * W[k * inputs + j]!;
      const slope = (2 * (y - target[i * outputs + k]!)) / (rows * outputs);
      ofBias[k]! += slope;
      for (let j = 0; j < inputs; j++) ofWeight[k * inputs + j]! += slope * x[i * inputs + j]!;
    }
  }
  const largestError = (actual: ArrayLike<number | bigint>, expected: Float64Array): number =>
    Math.max(...expected.map((value, i) => Math.abs(Number(actual[i]) - value)));
  assert.ok(largestError(weight!.toTypedArray(), ofWeight) < 1e-7);
  assert.ok(largestError(bias!.toTypedArray(), ofBias) < 1e-7);
  session.dispose();
});

test('channels-last training gives the same losses', async () => {
  const model = goldenModel();
  const session = openSession(model, { channels_last: true, optimizer: { name: 'sgd' } });
  for (const [step, expected] of golden.cases['sgd']!.losses.entries()) {
    const { loss } = await session.step(goldenBatch((step * 16) % 64, 16));
    assertClose(loss, expected, 1e-4 * expected, `loss ${step}`);
  }
  session.dispose();
});

test('trains in bfloat16 on the CPU, weights staying float32', async () => {
  const model = goldenModel();
  const session = openSession(model, { amp: 'bf16', optimizer: { name: 'adamw' }, schedule: constant(0.01) });
  const losses = await stepLosses(session, 40);
  session.dispose();
  assertClose(losses[0]!, golden.cases['sgd']!.losses[0]!, 0.02, 'first loss');
  assert.notEqual(losses[0], Math.fround(golden.cases['sgd']!.losses[0]!));
  assert.ok(mean(losses.slice(-4)) < 0.8 * mean(losses.slice(0, 4)), `losses ${losses.join(' ')}`);
  assert.equal(model.state()[0]!.tensor.dtype, 'float32');
});

test('in float16 a step that overflows is skipped and the scale backs off, then grows again', async () => {
  const model = goldenModel();
  const session = openSession(model, {
    amp: 'fp16',
    scaler: { init_scale: 2 ** 40, growth_interval: 3 },
    optimizer: { name: 'adamw' },
  });
  const before = stateValues(model)['conv1.weight'];
  const scales: number[] = [];
  let skipped = 0;
  for (let step = 0; step < 60 && scales.at(-1) !== scales.at(-3)! * 2; step++) {
    await session.step(goldenBatch((step * 16) % 64, 16));
    const snapshot = session.snapshot();
    scales.push(snapshot['scaler/scale']!.item());
    skipped = snapshot['scaler/skipped']!.item();
    if (step === 0) {
      assert.equal(scales[0], 2 ** 39);
      assert.deepEqual(stateValues(model)['conv1.weight'], before);
      assert.equal(snapshot['optimizer/step/fc.bias']!.item(), 0);
    }
  }
  assert.ok(skipped >= 1);
  assert.equal(Math.min(...scales), 2 ** (40 - skipped), `scales ${scales.join(' ')}`);
  assert.equal(session.snapshot()['optimizer/step/fc.bias']!.item(), session.stepCount - skipped);
  assert.notDeepEqual(stateValues(model)['conv1.weight'], before);
  session.dispose();
});

test('settings that contradict, dangle or are out of range are refused by name', () => {
  const model = goldenModel();
  const refused: [Partial<TrainOptions>, RegExp][] = [
    [{ groups: [{ parameters: ['fc.wieght'], weight_decay: 0 }] }, /fc\.wieght/],
    [{ groups: [{ parameters: ['bn1.running_mean'], weight_decay: 0 }] }, /bn1\.running_mean/],
    [{ groups: [] }, /no parameter is to be trained/],
    [{ groups: [0, 1].map(() => ({ parameters: ['fc.bias'], weight_decay: 0 })) }, /two groups/],
    [{ optimizer: { name: 'sgd', nesterov: true } }, /nesterov/],
    [{ optimizer: { name: 'adam', betas: [0.9, 1] } }, /betas\[1\]/],
    [{ schedule: { name: 'cosine', lr: 0.1, total_steps: 5, warmup_steps: 5 } }, /total_steps/],
    [{ schedule: constant(-1) }, /lr must be/],
    [{ clip_norm: 0 }, /clip_norm/],
    [{ grad_accum: 0 }, /grad_accum/],
  ];
  for (const [options, message] of refused) {
    assert.throws(
      () => openSession(model, options),
      (error) => error instanceof ArgumentError && message.test(error.message),
      JSON.stringify(options),
    );
  }
});

test('a batch without what the loss needs is a data error, and the session goes on', async () => {
  const session = openSession(goldenModel());
  const { image } = goldenBatch(0, 16);
  await assert.rejects(session.step({ image: image! }), (error) => {
    assert.ok(error instanceof DataError);
    assert.match(error.message, /`label`.*\(output\).*\(image\)/);
    return true;
  });
  const { loss } = await session.step(goldenBatch(0, 16));
  assert.ok(Number.isFinite(loss));
  session.dispose();
});

test('an operator that fails names its node', async () => {
  const session = openSession(goldenModel());
  const image = loadAddon().Tensor.fromTypedArray(new Float32Array(16 * 5 * 64), [16, 5, 8, 8]);
  await assert.rejects(session.step({ ...goldenBatch(0, 16), image }), (error) => {
    assert.ok(error instanceof ExecutionError);
    assert.match(error.message, /conv1/);
    return true;
  });
  session.dispose();
});

test('one job at a time: a second one and a look at the state are refused meanwhile', async () => {
  const session = openSession(goldenModel());
  const running = session.step(goldenBatch(0, 16));
  await assert.rejects(session.step(goldenBatch(0, 16)), TrainError);
  await running;
  session.dispose();
});

test('after dispose() everything throws DisposedError, dispose() itself does nothing', async () => {
  const session = openSession(goldenModel());
  session.dispose();
  session.dispose();
  assert.equal(session.disposed, true);
  assert.throws(() => session.snapshot(), DisposedError);
  assert.throws(() => session.learningRate(0), DisposedError);
  await assert.rejects(session.step(goldenBatch(0, 16)), DisposedError);
});

test('dispose() in the middle of a step rejects its promise', async () => {
  const session = openSession(goldenModel());
  const image = loadAddon().Tensor.fromTypedArray(new Float32Array(64 * 3 * 128 * 128), [64, 3, 128, 128]);
  const running = session.step({ ...goldenBatch(0, 64), image });
  session.dispose();
  await assert.rejects(running, AbortedError);
});

test('a model is trained by one session at a time', async () => {
  const model = goldenModel();
  const first = openSession(model);
  assert.throws(() => openSession(model), TrainError);
  await first.step(goldenBatch(0, 16));
  first.dispose();
  const second = openSession(model);
  assert.ok((await second.step(goldenBatch(0, 16))).loss > 0);
  assert.throws(() => openSession(model), TrainError);
  second.dispose();
});

function constant(lr: number): ScheduleOptions {
  return { name: 'constant', lr };
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

async function stepLosses(session: NativeTrain, steps: number): Promise<number[]> {
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    losses.push((await session.step(goldenBatch((step * 16) % 64, 16))).loss);
  }
  return losses;
}

function tensorValues(tensors: Record<string, NativeTensor>): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [name, Array.from(tensor.toTypedArray(), Number)]),
  );
}

test('run() over batches in memory equals step() on each of them, bit for bit', async () => {
  const batches = [0, 16, 32, 48].map((first) => goldenBatch(first, 16));
  const settings = { optimizer: { name: 'sgd', lr: 0.05, momentum: 0.9 } };
  const weightsAfter = async (train: (session: ReturnType<typeof openSession>) => Promise<void>) => {
    const model = goldenModel();
    const session = openSession(model, caseOptions(model, settings));
    await train(session);
    session.dispose();
    return stateValues(model);
  };
  const stepped = await weightsAfter(async (session) => {
    for (const batch of batches) await session.step(batch);
  });
  const ran = await weightsAfter(async (session) => {
    const losses: number[] = [];
    const result = await session.run(batches, {
      steps: 10,
      onEvent: (event) => losses.push(...event.losses),
    });
    assert.deepEqual([result.steps, result.samples, result.reason], [4, 64, 'epoch_end']);
    assert.equal(losses.length, 4);
  });
  assert.deepEqual(ran, stepped);
  const model = goldenModel();
  const session = openSession(model, caseOptions(model, settings));
  await assert.rejects(session.run([{ image: 3 as unknown as NativeTensor }], { steps: 1 }), ArgumentError);
  assert.equal((await session.run([], { steps: 1 })).reason, 'epoch_end');
});
