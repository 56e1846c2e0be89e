/** Which figure decides what the best epoch is, when to stop and when the rate falls, where data have no classes. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { ConfigError } from '#fornax/errors.js';
import { Model } from '#fornax/model.js';
import { Linear } from '#fornax/nn/index.js';
import type { JobEvent } from '#fornax/train/events.js';
import { memoryData, type MemoryData } from '#fornax/train/memory_data.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { collect } from './support/points.js';

let data: MemoryData;
before(async () => {
  const x = Array.from({ length: 60 }, (_, i) => [i / 60]);
  data = await memoryData({ train: { x, target: x.map(([v]) => [3 * v! + 1]) }, valFraction: 0.25 });
});
after(() => data.dispose());

const loss: TrainerOptions['loss'] = ({ output, target }) => output!.sub(target!).pow(2).mean();

async function fit(
  train: TrainerOptions['train'],
  rest: Partial<TrainerOptions> = {},
): Promise<{ trainer: Trainer; events: JobEvent[] }> {
  using model = Model.create(new Linear(1, 1), { inputs: [{ name: 'x', shape: [1, 1] }] });
  const settings = { batchSize: 10, lr: 0.05, amp: 'off', schedule: 'constant', ...train } as const;
  const trainer = new Trainer({ model, data, loss, device: 'cpu', train: settings, ...rest });
  return { trainer, events: await collect(trainer) };
}

const messages = (events: JobEvent[], wanted: string): string[] =>
  events.flatMap((event) => (event.type === wanted && 'message' in event ? [event.message] : []));

test('without classes the loss decides, and a training that improves is not stopped', async () => {
  const { trainer, events } = await fit({ epochs: 8, earlyStopping: { patience: 2 } });
  assert.equal(trainer.stopped, null);
  assert.equal(trainer.history.length, 8);
  const losses = trainer.history.map(({ evaluation }) => evaluation!.loss!);
  assert.equal(trainer.best!.value, Math.min(...losses));
  assert.ok(messages(events, 'info').some((text) => /best epoch is the one with the least/.test(text)));
});

test('what was asked for and is not there is refused', async () => {
  const refused = (where: string) => (error: unknown) =>
    error instanceof ConfigError && error.where === where && /no classes/.test(error.message);
  for (const monitor of ['top1', 'top5']) {
    await assert.rejects(fit({ epochs: 1 }, { checkpoint: { monitor } }), refused('checkpoint.monitor'));
    const stopping = { patience: 2, monitor };
    await assert.rejects(fit({ epochs: 1, earlyStopping: stopping }), refused('train.early_stopping'));
  }
  const schedule = { name: 'reduce_on_plateau', metric: 'top1' } as const;
  await assert.rejects(fit({ epochs: 1, schedule }), refused('train.schedule.metric'));
});

test('a schedule that goes by the loss keeps its rate while that falls', async () => {
  const schedule = { name: 'reduce_on_plateau', patience: 0, factor: 0.5 } as const;
  const { trainer } = await fit({ epochs: 5, schedule });
  assert.deepEqual(
    trainer.history.map(({ lr }) => lr),
    Array.from({ length: 5 }, () => 0.05),
  );
});

test('a loss that asks a teacher is none of the evaluation: said once, or refused', async () => {
  using teacher = Model.create(new Linear(1, 1), { inputs: [{ name: 'x', shape: [1, 1] }], seed: 3 });
  const asked: TrainerOptions['loss'] = (tensors) =>
    tensors['output']!.sub(tensors['teacher']!).pow(2).mean();
  const { trainer, events } = await fit({ epochs: 2 }, { loss: asked, teacher });
  assert.equal(trainer.best, null);
  const told = messages(events, 'warning').filter((text) => /no epoch is the best/.test(text));
  assert.equal(told.length, 1);
  await assert.rejects(
    fit({ epochs: 2, earlyStopping: { patience: 1 } }, { loss: asked, teacher }),
    (error) => error instanceof ConfigError && error.where === 'train.early_stopping',
  );
});

test('a figure that is never a number is told once', async () => {
  const { trainer, events } = await fit(
    { epochs: 3 },
    {
      metrics: { nothing: ({ output }) => output!.sub(output!).div(0).mean() },
      checkpoint: { monitor: 'nothing' },
    },
  );
  assert.equal(trainer.best, null);
  const told = messages(events, 'warning').filter((text) =>
    /nothing is (NaN|missing) after epoch 1/.test(text),
  );
  assert.equal(told.length, 1, JSON.stringify(messages(events, 'warning')));
});
