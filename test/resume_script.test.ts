/** A script's run goes on with the loss, metrics, teacher and preprocessing that it began with, or not at all. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { TrainError } from '#fornax/errors.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { collect, pointModel, usePoints, type PointFiles } from './support/points.js';

let files: PointFiles;
usePoints((made) => (files = made));

const train = { epochs: 1, batchSize: 32, amp: 'off', schedule: 'constant' } as const;

async function fit(name: string, changes: Partial<TrainerOptions>, resume: boolean): Promise<void> {
  using model = pointModel();
  const folder = path.join(files.root.path, name);
  const epochs = resume ? 2 : 1;
  const options = { model, data: files.data, device: 'cpu', folder, train: { ...train, epochs } } as const;
  await collect(new Trainer({ ...options, ...changes }), { resume });
}

/** What one began with, the other may not go on with; the same may. */
async function requireSame(
  name: string,
  wanted: RegExp,
  first: Partial<TrainerOptions>,
  other: Partial<TrainerOptions>,
): Promise<void> {
  await fit(name, first, false);
  await assert.rejects(
    fit(name, other, true),
    (error) => error instanceof TrainError && wanted.test(error.message),
  );
  await fit(name, first, true);
}

test('the loss', async () => {
  const first: TrainerOptions['loss'] = ({ output }) => output!.pow(2).mean();
  await requireSame(
    'loss',
    /- loss: it is another one/,
    { loss: first },
    {
      loss: ({ output }) => output!.sub(5).abs().mean(),
    },
  );
});

test('a metric that decides which epoch is the best; others may change', async () => {
  const checkpoint = { monitor: 'own', mode: 'min' } as const;
  const own: NonNullable<TrainerOptions['metrics']>[string] = ({ output }) => output!.abs().mean();
  await requireSame(
    'metrics',
    /- metrics\.own: it is another one/,
    { checkpoint, metrics: { own, aside: ({ output }) => output!.mean() } },
    { checkpoint, metrics: { own: ({ output }) => output!.mean() } },
  );
});

test('the teacher, down to its weights', async () => {
  using first = pointModel(1);
  using other = pointModel(2);
  const loss: TrainerOptions['loss'] = (all) => all['output']!.sub(all['teacher']!).pow(2).mean();
  await requireSame(
    'teacher',
    /- teacher: it is another one/,
    { loss, teacher: first },
    {
      loss,
      teacher: other,
    },
  );
});

test('what images go through', async () => {
  const image = { data: new Uint8Array(12 * 4 * 4 * 3), shape: [12, 4, 4, 3] };
  const others = { left: new Array(12).fill([1, 2, 3, 4]), right: new Array(12).fill([4, 3, 2, 1]) };
  const label = Int32Array.from({ length: 12 }, (_, i) => i % 3);
  const make = (normalize: 'imagenet' | 'none'): ReturnType<typeof memoryData> =>
    memoryData({ train: { ...others, image, label: { data: label, shape: [12] } }, normalize });
  using first = await make('imagenet');
  using other = await make('none');
  await requireSame('images', /- preprocessing: it is another one/, { data: first }, { data: other });
});
