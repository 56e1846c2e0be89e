/** Native training in bfloat16 and float16, and the scale of the loss. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NativeTrain } from '#fornax/native/contract.js';
import {
  assertClose,
  golden,
  goldenBatch,
  goldenModel,
  openSession,
  stateValues,
} from './support/training_golden.js';

test('trains in bfloat16 on the CPU, weights staying float32', async () => {
  const model = goldenModel();
  const session = openSession(model, {
    amp: 'bf16',
    optimizer: { name: 'adamw' },
    schedule: { name: 'constant', lr: 0.01 },
  });
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
