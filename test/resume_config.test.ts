/** Which settings a resumed run may have changed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import type { ConfigInput } from '#fornax/config/schema.js';
import type { Checkpoint } from '#fornax/train/checkpoint.js';
import {
  checkResumable,
  comparedConfig,
  configDifferences,
  type ComparedConfig,
  type ResumeIdentity,
} from '#fornax/train/resume.js';

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

test('a warning says how the run was computed so far, single layers in bf16 included', () => {
  const warned = (parts: Record<string, unknown>, train: ConfigInput['train'] = {}): string => {
    const identity: ResumeIdentity = {
      config: config(train),
      computed: { device: 'cpu', amp: 'off', threads: 2 },
      ...{ dataFingerprint: 'd', graphHash: 'g', stepsPerEpoch: 4 },
    };
    const state = {
      config: identity.config,
      computed: { device: 'cpu', amp: 'off', threads: 1 },
      ...{ data_fingerprint: 'd', graph_hash: 'g', steps_per_epoch: 4, parts },
    };
    const warnings: string[] = [];
    checkResumable({ path: 'p', state } as unknown as Checkpoint, identity, (line) => warnings.push(line));
    return warnings.join('\n');
  };
  assert.match(warned({}), /computed on cpu \(fp32, 1 thread\), from here on cpu \(fp32, 2 threads\)/);
  assert.match(warned({ precision: { bf16: [] } }), /\(fp32, 1 thread\)/);
  assert.match(warned({ precision: { bf16: ['fc'] } }), /\(fp32 and bf16, 1 thread\)/);
  assert.match(warned({}, { precision: { bf16: ['fc'] } }), /\(fp32 and bf16, 1 thread\)/);
});
