/** Several trainers in one process: one after another without leaving anything behind, and at the same time. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { TrainError } from '#fornax/errors.js';
import { Trainer } from '#fornax/train/trainer.js';

import { collect, pointData, pointModel, weightsOf } from './support/points.js';

const run = promisify(execFile);
const child = fileURLToPath(new URL('./support/trainers_child.js', import.meta.url));

/** What becomes of the trainings: they end, are left, fail in a callback, fail in a native step. */
for (const kind of ['done', 'left', 'callback', 'loss']) {
  test(`20 trainers of different sizes, one after another, leave nothing behind: ${kind}`, async () => {
    const { stdout } = await run(process.execPath, ['--expose-gc', child, kind, '20'], { timeout: 600_000 });
    const { resident, alive } = JSON.parse(stdout) as { resident: number[]; alive: number };
    // The last ones may still be in some register or promise; of 20 that were kept all 40 objects would be here.
    assert.ok(alive <= 4, `${alive} of 40 trainers and models are still there`);
    // Every size has been there twice by the eighth. With optimizer and average a model takes 4 to 20 MiB.
    const growth = Math.max(...resident.slice(-4)) - Math.max(...resident.slice(4, 8));
    assert.ok(
      growth < 60,
      `resident set after each, MiB: ${resident.map((mib) => mib.toFixed(0)).join(' ')}`,
    );
  });
}

const train = { epochs: 3, batchSize: 8, lr: 0.05, amp: 'off' as const };

test('two trainers at the same time compute what each computes alone', async () => {
  using data = await pointData();
  const trainOne = async (seed: number): Promise<string> => {
    using model = pointModel(seed);
    const trainer = new Trainer({
      model,
      data,
      device: 'cpu',
      train: { ...train, seed, lr: 0.02 * (seed + 1) },
    });
    await collect(trainer);
    return weightsOf(model) + JSON.stringify(trainer.history);
  };
  const alone = [await trainOne(0), await trainOne(1)];
  assert.deepEqual(await Promise.all([trainOne(0), trainOne(1)]), alone);
});

test('one model cannot be trained by two at the same time', async () => {
  using data = await pointData();
  using model = pointModel();
  const [first, second] = [0, 1].map(() => new Trainer({ model, data, device: 'cpu', train }));
  const results = await Promise.allSettled([collect(first!), collect(second!)]);
  const failed = results.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
  assert.equal(failed.length, 1);
  assert.ok(failed[0]!.reason instanceof TrainError, String(failed[0]!.reason));
  // The other one is not disturbed, and afterwards the model is free again.
  await collect(second!);
});
