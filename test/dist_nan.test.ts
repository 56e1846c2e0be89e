/**
 * NaN in the data of one of several processes: all of them stop, or roll back, at the same step and to the same
 * weights, whether losses are looked at at once or some steps later, and none waits for another. On CPUs, over Gloo.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { runTogether } from './support/dist_processes.js';
import type { NanOutcome, NanTraining } from './support/dist_nan_child.js';
import { temporaryFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => void (root = await temporaryFolder()));
after(() => root[Symbol.asyncDispose]());

const plain = {
  epochs: 2,
  batchSize: 4,
  lr: 0.05,
  amp: 'off',
  optimizer: 'adamw',
  syncBatchNorm: true,
  threads: 1,
} as const;
const stepsPerEpoch = 10;

/** What the processes say, which is the same but for whose report it is. */
async function trainBoth(
  name: string,
  training: Omit<NanTraining, 'folder' | 'samples'>,
): Promise<NanOutcome> {
  const folder = path.join(root.path, name);
  const all = { ...training, folder, samples: stepsPerEpoch * 4 * 2 };
  const [first, second] = await runTogether<NanOutcome>('dist_nan_child.js', 2, all, 600);
  assert.deepEqual(second, first);
  assert.ok(!first!.weights.includes('null'), 'no weight is NaN');
  return first!;
}

for (const bad of [5, 46]) {
  test(`all processes stop at the same step, and name the place in the data of one: sample ${bad}`, async () => {
    const outcomes: NanOutcome[] = [];
    for (const late of [false, true]) {
      const outcome = await trainBoth(`stop ${bad} ${late}`, { train: plain, bad, late });
      assert.match(
        outcome.error ?? '',
        /the loss is not finite \(NaN\) at step \d+: the batch is not finite: its `left` has 1 NaN of 16/,
      );
      const { step, action, node } = outcome.faults[0]!;
      assert.deepEqual([action, node, outcome.faults.length], ['stop', 'left', 1]);
      assert.ok(step >= 1 && step <= stepsPerEpoch);
      assert.ok(outcome.error!.includes(`at step ${step}:`));
      outcomes.push(outcome);
    }
    assert.deepEqual(outcomes[1]!.faults, outcomes[0]!.faults, 'late or not');
  });

  test(`all processes roll back alike and go on: sample ${bad}`, async () => {
    const train = { ...plain, nanWatch: { policy: 'rollback' } } as const;
    const outcomes: NanOutcome[] = [];
    for (const late of [false, true]) {
      const outcome = await trainBoth(`rollback ${bad} ${late}`, { train, bad, late });
      assert.equal(outcome.error, null);
      assert.equal(outcome.losses.length, 2);
      assert.ok(outcome.losses.every(Number.isFinite), outcome.losses.join());
      // The sample comes once in each epoch.
      assert.deepEqual(
        outcome.faults.map(({ step, action, to }) => [
          Math.ceil(step / stepsPerEpoch),
          action,
          // Checkpoints come every four steps and at the end of an epoch.
          to === null ? step <= 4 : to < step && step - to <= 4,
        ]),
        [
          [1, 'rollback', true],
          [2, 'rollback', true],
        ],
      );
      outcomes.push(outcome);
    }
    assert.deepEqual(outcomes[1]!.faults, outcomes[0]!.faults, 'late or not');
  });
}

test('all processes end after the same number of rollbacks', async () => {
  const train = { ...plain, nanWatch: { policy: 'rollback', rollbacks: 1 } } as const;
  const { error, faults } = await trainBoth('ended', { train, bad: 5, late: true });
  assert.match(error ?? '', /, after 1 rollbacks/);
  assert.deepEqual(
    faults.map(({ action }) => action),
    ['rollback', 'stop'],
  );
});
