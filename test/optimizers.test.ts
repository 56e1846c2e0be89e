/** Optimizers and averages beyond what golden trajectories show: resume, skipped steps, moving momentum, refusals. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArgumentError } from '#fornax/errors.js';
import type {
  NativeGraph,
  NativeTensor,
  NativeTrain,
  OptimizerOptions,
  TrainOptions,
} from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import {
  goldenBatch,
  goldenModel,
  openSession,
  parameterGroups,
  stateValues,
} from './support/training_golden.js';

const optimizers: OptimizerOptions[] = [
  { name: 'sgd', momentum: 0.9 },
  { name: 'adam', amsgrad: true },
  { name: 'adamw' },
  { name: 'rmsprop', momentum: 0.5, centered: true },
  { name: 'adagrad', lr_decay: 0.1, initial_accumulator_value: 0.1 },
  { name: 'radam' },
  { name: 'nadam', decoupled_weight_decay: true },
  { name: 'lion' },
  { name: 'lamb', always_adapt: true },
  { name: 'lars', momentum: 0.9, nesterov: true },
];

function open(model: NativeGraph, options: Partial<TrainOptions>): NativeTrain {
  return openSession(model, {
    groups: parameterGroups(model, 0.01, true),
    schedule: { name: 'constant', lr: 0.01 },
    ...options,
  });
}

async function steps(session: NativeTrain, count: number, first = 0): Promise<void> {
  for (let i = first; i < first + count; i++) {
    const { outputs } = await session.step(goldenBatch((i * 16) % 64, 16));
    for (const tensor of Object.values(outputs)) tensor.dispose();
  }
}

function copyWeights(from: NativeGraph, to: NativeGraph): void {
  to.loadState(Object.fromEntries(from.state().map(({ name, tensor }) => [name, tensor])));
}

const values = (tensors: Record<string, NativeTensor>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.toTypedArray()]));

for (const optimizer of optimizers) {
  test(`${optimizer.name}: resumed training is the same to the last bit, its average too`, async () => {
    const options = { optimizer, ema: { decay: 0.9, warmup: true } };
    const whole = goldenModel();
    const session = open(whole, options);
    await steps(session, 7);
    const stopped = goldenModel();
    const first = open(stopped, options);
    await steps(first, 4);
    const resumed = goldenModel();
    copyWeights(stopped, resumed);
    const second = open(resumed, options);
    second.restore(first.snapshot(), first.stepCount);
    await steps(second, 3, 4);
    assert.deepEqual(stateValues(resumed), stateValues(whole));
    assert.deepEqual(values(second.snapshot()), values(session.snapshot()));
    assert.deepEqual(values(second.ema()), values(session.ema()));
    for (const one of [session, first, second]) one.dispose();
  });

  test(`${optimizer.name}: a step that overflows leaves weights and state as they were`, async () => {
    const model = goldenModel();
    const session = open(model, { optimizer, amp: 'fp16', scaler: { init_scale: 2 ** 6 } });
    await steps(session, 1);
    const before = { weights: parametersOf(model), state: optimizerState(session) };
    const { Tensor } = loadAddon();
    const batch = goldenBatch(0, 16);
    const image = Tensor.call('aten::mul.Scalar', [batch['image']!, 1e38])[0]!;
    await session.step({ ...batch, image });
    assert.equal(session.snapshot()['scaler/skipped']!.item(), 1);
    assert.deepEqual(parametersOf(model), before.weights);
    assert.deepEqual(optimizerState(session), before.state);
    session.dispose();
  });
}

function parametersOf(model: NativeGraph): Record<string, unknown> {
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  return Object.fromEntries(parameters.map(({ name, tensor }) => [name, tensor.toTypedArray()]));
}

function optimizerState(session: NativeTrain): Record<string, unknown> {
  const entries = Object.entries(session.snapshot()).filter(([name]) => name.startsWith('optimizer/'));
  return values(Object.fromEntries(entries));
}

test('settings out of range are refused by name', () => {
  const wrong: [OptimizerOptions, RegExp][] = [
    [{ name: 'rmsprop', alpha: 1 }, /alpha/],
    [{ name: 'adagrad', lr_decay: -1 }, /lr_decay/],
    [{ name: 'radam', betas: [1, 0.9] }, /betas\[0\]/],
    [{ name: 'nadam', momentum_decay: -1 }, /momentum_decay/],
    [{ name: 'lion', betas: [0.9, 1] }, /betas\[1\]/],
    [{ name: 'lamb', max_grad_norm: 0 }, /max_grad_norm/],
    [{ name: 'lars', nesterov: true }, /nesterov/],
  ];
  for (const [optimizer, message] of wrong) {
    assert.throws(
      () => open(goldenModel(), { optimizer }),
      (error: ArgumentError) => {
        assert.ok(error instanceof ArgumentError);
        assert.match(error.message, message);
        return true;
      },
    );
  }
  assert.throws(() => open(goldenModel(), { ema: { decay: 1 } }), /decay/);
});

test('the average of constant weights is those weights; integers are copied', async () => {
  const model = goldenModel();
  const session = open(model, { schedule: { name: 'constant', lr: 0 }, ema: { decay: 0.5 } });
  await steps(session, 3);
  const average = session.ema();
  for (const { name, kind, tensor } of model.state()) {
    if (kind === 'parameter' || tensor.dtype === 'int64') {
      assert.deepEqual(average[name]!.toTypedArray(), tensor.toTypedArray(), name);
    }
  }
  const tracked = Object.entries(average).find(([name]) => name.endsWith('num_batches_tracked'));
  assert.equal(Number((tracked![1].toTypedArray() as BigInt64Array)[0]), 3);
  session.dispose();
  const without = open(goldenModel(), {});
  assert.throws(() => without.ema(), ArgumentError);
  without.dispose();
});

test('a cycle moves momentum against the rate, and needs an optimizer that has one', async () => {
  const schedule = { name: 'one_cycle', max_lr: 0.05, total_steps: 8, cycle_momentum: true } as const;
  const weights: Record<string, Float32Array>[] = [];
  for (const cycle_momentum of [true, false]) {
    const model = goldenModel();
    const session = open(model, { optimizer: { name: 'adamw' }, schedule: { ...schedule, cycle_momentum } });
    await steps(session, 4);
    weights.push(stateValues(model));
    session.dispose();
  }
  assert.notDeepEqual(weights[0], weights[1]);
  assert.throws(() => open(goldenModel(), { optimizer: { name: 'sgd' }, schedule }), /moves momentum/);
});
