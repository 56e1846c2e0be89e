/** Values that a key's kind allows, and that make no sense. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { loadConfig } from '#fornax/config/load.js';
import type { FixedTrain } from '#fornax/config/schema.js';
import { ConfigError } from '#fornax/errors.js';
import { scheduleOptions } from '#fornax/train/train_options.js';

import { problems, yaml } from './support/config_files.js';

const good = 'data: {path: images}\n';

describe('what makes no sense is refused at its place', () => {
  const size = 'expected an amount of memory such as 512MiB, 4GiB or 1.5GB';
  const cases: [text: string, expected: string][] = [
    ['memory: {budget: 0.5B}', `2:18 memory.budget: ${size}, got "0.5B"`],
    ['memory: {budget: 99999999TiB}', `2:18 memory.budget: ${size}, got "99999999TiB"`],
    ['memory: {budget: auto}', `2:18 memory.budget: ${size}, got "auto"`],
    ['checkpoint: {keep: 1}', '2:20 checkpoint.keep: expected a whole number at least 2, got 1'],
    ['train: {head_lr: 0x}', '2:18 train.head_lr: expected a rate or a factor such as 10x, got "0x"'],
    ['train: {head_lr: 0.0e5x}', '2:18 train.head_lr: expected a rate or a factor such as 10x, got "0.0e5x"'],
    [
      'train: {groups: [{match: conv1, lr_scale: 2}, {match: fc}]}',
      '2:47 train.groups[1]: sets nothing for the parameters that it matches (give it lr_scale, weight_decay or frozen, or leave it out)',
    ],
    [
      "train: {amp: 'off', precision: {bf16: [conv1]}}",
      '2:32 train.precision: amp: off decides for all modules already (set train.amp to auto, or leave precision out)',
    ],
    [
      'train: {schedule: multistep}',
      '2:19 train.schedule: multistep needs settings of its own: milestones ({name: multistep, milestones: …})',
    ],
    [
      'train: {deterministic: true, batch_size: auto}',
      '2:42 train.batch_size: auto goes by the memory that is free, which train.deterministic rules out (give a number, or a memory.budget)',
    ],
  ];
  for (const [text, expected] of cases) {
    it(text, () => assert.deepEqual(problems({ files: [yaml(`${good}${text}\n`)] }), [expected]));
  }
});

it('amounts of memory become bytes', () => {
  const budget = (text: string): number | null =>
    loadConfig({ files: [yaml(`${good}memory: {budget: ${text}}\n`)] }).memory.budget;
  assert.deepEqual(['1.5KiB', '1B', '7', 'null'].map(budget), [1536, 1, 7, null]);
});

it('a rate at the end above the peak is refused, also where the peak follows from the batch', () => {
  const config = loadConfig({ files: [yaml(`${good}train: {schedule: {name: cosine, min_lr: 5}}\n`)] });
  assert.throws(
    () => scheduleOptions(config.train as FixedTrain, 10),
    (error) =>
      error instanceof ConfigError &&
      error.where === 'train.schedule.min_lr' &&
      /at most the learning rate \(0.025\), got 5/.test(error.what),
  );
});
