/** Which settings a resumed run may have changed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import type { ConfigInput } from '#fornax/config/schema.js';
import { comparedConfig, configDifferences, type ComparedConfig } from '#fornax/train/resume.js';

const config = (train: ConfigInput['train'] = {}, changes: Partial<ConfigInput> = {}): ComparedConfig =>
  comparedConfig(defineConfig({ data: { source: 'shapes' }, train, ...changes }));

test('what decides the result may not change, where and how long may', () => {
  assert.deepEqual(configDifferences(config(), config()), []);
  assert.deepEqual(configDifferences(config({ lr: 0.1 }), config({ lr: 0.2 })), ['train.lr: 0.1 → 0.2']);
  const free = config({ epochs: 99, maxTime: '1h', earlyStopping: { patience: 3 } }, { device: 'cpu' });
  assert.deepEqual(configDifferences(config(), free), []);
  // The sections that a Trainer has.
  const { train, checkpoint } = config();
  assert.deepEqual(configDifferences({ train, checkpoint }, { train, checkpoint }), []);
});

test('a checkpoint from before a setting existed has its default', () => {
  const older = config();
  delete (older['train'] as Record<string, unknown>)['label_smoothing'];
  delete (older['data'] as { augment: Record<string, unknown> }).augment['hflip'];
  assert.deepEqual(configDifferences(older, config()), []);
  assert.deepEqual(configDifferences(older, config({ labelSmoothing: 0.1 })), [
    'train.label_smoothing: 0 → 0.1',
  ]);
});
