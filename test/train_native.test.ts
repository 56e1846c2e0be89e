/** Steps of the native training session: PyTorch's trajectories, gradients, groups, batches in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { ArgumentError } from '#fornax/errors.js';
import { trace } from '#fornax/graph/trace.js';
import { mse } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { Linear } from '#fornax/nn/index.js';
import { fillInput } from './conformance/fill.js';
import {
  assertClose,
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
