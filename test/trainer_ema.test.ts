/** What training leaves behind with an average of the weights, and with batch norm recomputed. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { Model } from '#fornax/model.js';
import type { TrainData } from '#fornax/train/data.js';
import type { JobEvent } from '#fornax/train/events.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { colourData, type ColourData } from './support/colour_data.js';
import { stateValues } from './support/training_golden.js';

let root: ColourData['root'];
let data: TrainData;
colourData((made) => ({ root, data } = made));

const plain = { epochs: 2, batchSize: 8, lr: 0.05 };

async function train(
  settings: TrainerOptions['train'],
  more: Partial<TrainerOptions> = {},
): Promise<{ weights: Record<string, Float32Array>; events: JobEvent[]; trainer: Trainer }> {
  using model = Model.create('tiny_cnn', { seed: 0, numClasses: 3, inputs: [[2, 3, 24, 24]] });
  const trainer = new Trainer({ model, data, device: 'cpu', train: { ...plain, ...settings }, ...more });
  const events: JobEvent[] = [];
  for await (const event of trainer.fit()) events.push(event);
  return { weights: stateValues(model.native), events, trainer };
}

test('the average is what is evaluated and what the model becomes', async () => {
  const raw = await train({});
  // An average that forgets at once is the weights themselves.
  const forgetful = await train({ ema: { decay: 0, warmup: false } });
  assert.deepEqual(forgetful.weights, raw.weights);
  assert.deepEqual(forgetful.trainer.metrics, raw.trainer.metrics);
  // One that hardly moves is still the first weights.
  const lazy = await train({ ema: { decay: 0.999999, warmup: false } });
  using initial = Model.create('tiny_cnn', { seed: 0, numClasses: 3, inputs: [[2, 3, 24, 24]] });
  for (const [name, values] of Object.entries(stateValues(initial.native))) {
    lazy.weights[name]!.forEach((value, i) => assert.ok(Math.abs(value - values[i]!) < 1e-4, name));
  }
  assert.notEqual(lazy.trainer.metrics!.loss, raw.trainer.metrics!.loss);
});

test('the best epoch’s average comes back from its checkpoint', async () => {
  const folder = path.join(root.path, 'best');
  // The rate is so high that the last epochs are worse than an earlier one.
  const settings = { epochs: 4, lr: 3, ema: { decay: 0.5, warmup: false } };
  const { trainer, weights } = await train(settings, { folder });
  const best = trainer.best!;
  assert.ok(Object.values(weights).every((values) => values.every(Number.isFinite)));
  const record = trainer.history.find(({ epoch }) => epoch === best.epoch)!;
  assert.deepEqual(trainer.metrics, record.evaluation);
});

test('batch norm is recomputed at the end, and the log says so', async () => {
  const raw = await train({});
  const { weights, events, trainer } = await train({ bnRecompute: 2 });
  const messages = events.flatMap((event) => (event.type === 'info' ? [event.message] : []));
  assert.ok(
    messages.includes('Recomputing BatchNorm statistics: 2 layers, dropout off (0 layers), 2 batches'),
    messages.join('\n'),
  );
  assert.match(messages.at(-1)!, /^BatchNorm statistics: top-1 [\d.]+ % before, [\d.]+ % after$/);
  assert.deepEqual(weights['conv1.weight'], raw.weights['conv1.weight']);
  assert.notDeepEqual(weights['bn1.running_mean'], raw.weights['bn1.running_mean']);
  assert.notEqual(trainer.metrics!.loss, raw.trainer.metrics!.loss);
});

test('the plateau schedule sees the evaluations of the run', async () => {
  const schedule = { name: 'reduce_on_plateau', metric: 'top1', patience: 0, threshold: 1 } as const;
  // Nothing is ever twice as good as the first evaluation but a very bad start.
  const { trainer } = await train({
    epochs: 4,
    schedule: { ...schedule, thresholdMode: 'abs', factor: 0.5 },
  });
  assert.deepEqual(
    trainer.history.map(({ lr }) => lr),
    [0.05, 0.05, 0.025, 0.0125],
  );
});
