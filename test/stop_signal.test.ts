/** A signal that asks a training to stop is heard wherever the training is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Processes } from '#fornax/dist/processes.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { TrainerPlan } from '#fornax/train/trainer_options.js';
import { TrainingRun } from '#fornax/train/training_run.js';

import { pointModel, pointSamples } from './support/points.js';

test('while processes agree whether to go on', async () => {
  const samples = 4000;
  using data = await memoryData({ train: pointSamples(samples) });
  const model = pointModel();
  const stop = new AbortController();
  let started = false;
  // As over a network: the answers of the others take a while.
  const processes = Object.create(Processes.alone) as Processes;
  processes.gather = async (value) => {
    if (started) setTimeout(() => stop.abort(), 5);
    await sleep(50);
    return [value];
  };
  const plan = new TrainerPlan({ model, data, train: { epochs: 2, batchSize: 2, amp: 'off' } });
  const run = new TrainingRun({
    model,
    data,
    config: plan.config,
    loss: plan.lossGraph(null),
    store: null,
    signal: stop.signal,
    processes,
    report: ({ type }) => {
      started ||= type === 'start';
    },
  });
  const { interrupted, step } = await run.run();
  assert.ok(interrupted);
  assert.ok(step < samples / 2, `the whole epoch was trained: ${step} steps`);
  model.dispose();
});
