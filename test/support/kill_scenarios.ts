/** Runs that are killed: together they have every setting that a resume must restore. */
import path from 'node:path';

import { defineConfig } from '#fornax/config/load.js';
import type { Config, ConfigInput } from '#fornax/config/schema.js';

/** What the child is given. */
export interface KillJob {
  config: Config;
  /** Compute in float16 with a gradient scaler, which the configuration allows on CUDA alone. */
  fp16?: boolean;
  /** The loss of batches of a single class is NaN. */
  notFinite?: boolean;
  /** The child kills itself as soon as it comes there. */
  killAt?: { phase: string; visit: number };
}

type TrainInput = NonNullable<ConfigInput['train']>;

interface Settings {
  train: TrainInput;
  checkpoint?: ConfigInput['checkpoint'];
  data?: ConfigInput['data'];
  fp16?: boolean;
  notFinite?: boolean;
}

export const SCENARIOS: Readonly<Record<string, Settings>> = {
  'AdamW, bf16, clipping, warm-up': {
    train: {
      optimizer: 'adamw',
      lr: 0.002,
      amp: 'bf16',
      gradAccum: 3,
      clipNorm: 1,
      labelSmoothing: 0.1,
      schedule: { name: 'constant', warmupSteps: 5 },
    },
    checkpoint: { everySteps: 4, keepBest: 2 },
  },
  'SGD, EMA, one-cycle with momentum, batch-norm recompute': {
    train: {
      optimizer: { name: 'sgd', nesterov: true },
      lr: 0.05,
      gradAccum: 2,
      ema: { decay: 0.99 },
      bnRecompute: 6,
      schedule: { name: 'one_cycle', cycleMomentum: true },
    },
    data: { augment: { crop: 'random_resized_crop', hflip: 0.5 } },
    checkpoint: { everySteps: 3, keepEveryEpochs: 2 },
  },
  'AdamW, reduce on plateau, early stopping, EMA': {
    train: {
      epochs: 12,
      optimizer: { name: 'adamw', amsgrad: true },
      lr: 0.01,
      gradAccum: 4,
      ema: { decay: 0.9, warmup: false },
      schedule: { name: 'reduce_on_plateau', patience: 0, factor: 0.5, threshold: 0.5 },
      // Never improved by so much: it ends after the eighth epoch.
      earlyStopping: { patience: 7, monitor: 'loss', minDelta: 10 },
    },
    checkpoint: { monitor: 'loss', keepBest: 3, everyEpochs: 2 },
  },
  'SGD, cosine per step, random crop, bf16 for one layer': {
    train: {
      threads: 2,
      amp: 'auto',
      precision: { bf16: ['conv2'] },
      optimizer: { name: 'sgd', momentum: 0.8, nesterov: false },
      lr: 0.1,
      weightDecay: 0.01,
      decayNormAndBias: false,
      schedule: { name: 'cosine', warmupEpochs: 0.5 },
      frozen: ['bn1'],
    },
    data: { augment: { crop: 'random_crop', padding: 3 } },
    checkpoint: { everySteps: 5 },
  },
  'SGD, SWA, mixup and CutMix, several groups': {
    train: {
      optimizer: 'sgd',
      lr: 0.05,
      gradAccum: 2,
      mixup: 0.2,
      cutmix: 1,
      swa: { start: 0.5, interval: 1, lr: 0.01 },
      bnRecompute: 4,
      headLr: '3x',
      layerDecay: 0.8,
      groups: [
        { match: '*.bias', weightDecay: 0 },
        { match: 'bn1', frozen: true },
      ],
      clipValue: 0.05,
      schedule: { name: 'polynomial', power: 2 },
    },
    checkpoint: { everySteps: 4, keepBest: 2 },
  },
  'Adam, fp16 with a gradient scaler, steps skipped': {
    train: {
      optimizer: 'adam',
      lr: 0.003,
      gradAccum: 3,
      schedule: { name: 'step', stepSize: 2, gamma: 0.5 },
    },
    checkpoint: { everySteps: 2, keep: 3 },
    fp16: true,
  },
  'AdamW, EMA, rollbacks from batches that are not finite': {
    train: {
      optimizer: 'adamw',
      lr: 0.003,
      ema: { decay: 0.9 },
      nanWatch: { policy: 'rollback', rollbacks: 1000 },
    },
    checkpoint: { everySteps: 6, everyEpochs: 3 },
    notFinite: true,
  },
};

export interface Places {
  images: string;
  cache: string;
  /** Of all runs. */
  dir: string;
}

/** A scenario as a job. Its name is that of the run's folder. */
export function killJob(
  scenario: string,
  name: string,
  { images, cache, dir }: Places,
  workers: number,
): KillJob {
  const { train, checkpoint, data, fp16 = false, notFinite = false } = SCENARIOS[scenario]!;
  const config = defineConfig({
    name,
    model: { name: 'tiny_cnn', options: { dropout: 0.3 } },
    device: 'cpu',
    data: { path: images, cache, resolution: 24, workers, ...data },
    run: { dir: path.resolve(dir) },
    eval: { batchSize: 8 },
    checkpoint: checkpoint ?? {},
    // One thread, but for one scenario: those of several runs would wait for each other most of the time.
    train: { epochs: 8, batchSize: 3, amp: 'off', threads: 1, ...train },
  });
  return { config, fp16, notFinite };
}
