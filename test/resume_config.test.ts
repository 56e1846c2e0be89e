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
      ...{ data_fingerprint: 'd', graph_hash: 'g', steps_per_epoch: 4, epoch: 0, epoch_step: 0, parts },
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

/** What a resume with `now` is told: refused lines, or warnings. */
function told(before: Partial<ResumeIdentity>, now: Partial<ResumeIdentity>, state: object = {}): string {
  const base: ResumeIdentity = {
    config: config(),
    computed: { device: 'cpu', amp: 'off', threads: 1 },
    ...{ dataFingerprint: 'd', graphHash: 'g', stepsPerEpoch: 4 },
  };
  const was = { ...base, ...before };
  const checkpoint = {
    path: 'p',
    state: {
      ...{ config: was.config, computed: was.computed, hashes: was.hashes },
      ...{ data_fingerprint: 'd', graph_hash: 'g', steps_per_epoch: 4, parts: {}, epoch: 3, epoch_step: 0 },
      ...state,
    },
  } as unknown as Checkpoint;
  const warnings: string[] = [];
  try {
    checkResumable(checkpoint, { ...base, ...now }, (line) => warnings.push(line));
  } catch (error) {
    return (error as Error).message;
  }
  return warnings.join('\n');
}

test('what a script gives beside its config is compared, as far as the checkpoint knows it', () => {
  const hashes = { loss: 'a'.repeat(64), 'metrics.mae': 'b'.repeat(64) };
  assert.equal(told({ hashes }, { hashes: { ...hashes, preprocessing: 'c' } }), '');
  assert.equal(told({}, { hashes }), '');
  assert.match(told({ hashes }, { hashes: { ...hashes, loss: 'f'.repeat(64) } }), /- loss: .*a{12} → f{12}/);
  assert.match(told({ hashes }, { hashes: { ...hashes, 'metrics.mae': 'x' } }), /- metrics\.mae: /);
});

test('a run does not become shorter than it is', () => {
  const epochs = (count: number): Partial<ResumeIdentity> => ({ config: config({ epochs: count }) });
  assert.match(told(epochs(9), epochs(2)), /- train\.epochs: 2, and 3 were trained already/);
  assert.doesNotMatch(told(epochs(9), epochs(3)), /already/);
  assert.match(told(epochs(9), epochs(3), { epoch_step: 1 }), /train\.epochs: 3, and epoch 4 was begun/);
});

test('the rate is said to follow the length where it does', () => {
  const longer = (name: string): string =>
    told(
      { config: config({ epochs: 5, schedule: name as 'cosine' }) },
      { config: config({ epochs: 9, schedule: name as 'cosine' }) },
    );
  for (const name of ['cosine', 'polynomial', 'one_cycle']) assert.match(longer(name), /from 5 to 9/, name);
  for (const name of ['constant', 'reduce_on_plateau', 'exponential']) assert.equal(longer(name), '', name);
});

test('where the schedule counts evaluations, their number may not change', () => {
  const every = (everyEpochs: number, name: 'reduce_on_plateau' | 'cosine'): ComparedConfig =>
    config({ schedule: name }, { eval: { everyEpochs } });
  assert.deepEqual(configDifferences(every(1, 'reduce_on_plateau'), every(3, 'reduce_on_plateau')), [
    'eval.every_epochs: 1 → 3',
  ]);
  assert.deepEqual(configDifferences(every(1, 'cosine'), every(3, 'cosine')), []);
});

test('another number of processes is told once, not by the rate that goes by it', () => {
  const of = (processes: number, lr?: number): Partial<ResumeIdentity> => ({
    config: config({ batchSize: 32, lr: lr ?? (0.1 * 32 * processes) / 256 }),
    computed: { device: 'cpu', amp: 'off', threads: 1, processes },
  });
  assert.doesNotMatch(told(of(2), of(1)), /train\.lr/);
  assert.match(told(of(2), of(1)), /- processes: 2 → 1/);
  assert.match(told(of(2, 0.3), of(1)), /- train\.lr: 0\.3 → 0\.0125/);
});
