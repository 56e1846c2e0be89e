/** What is refused before anything is read or decoded. */
import { unfedLosses } from '../config/check_losses.js';
import type { Config } from '../config/schema.js';
import type { Place } from '../dist/place.js';
import { ConfigError } from '../errors.js';
import { findArchitecture } from '../models/registry.js';

/** @throws ConfigError where all processes of this machine would train on the same GPU. */
export function requireOwnDevice({ device }: Config, { localWorld }: Place): void {
  if (localWorld === 1 || !/^cuda:/.test(device.train)) return;
  throw new ConfigError({
    what: `${localWorld} processes cannot train on one GPU (${device.train})`,
    where: 'device.train',
    fix: 'use auto or cuda: each process takes the GPU of its local rank',
  });
}

/** @throws ConfigError where several processes would have to find a batch size in common. */
export function requireBatchSize({ train }: Config, { world }: Place): void {
  if (train.batchSize !== 'auto' || world === 1) return;
  throw new ConfigError({
    what: `${world} processes cannot find the batch size automatically`,
    where: 'train.batch_size',
    fix: 'give a number: find it in one process, with --dry-run',
  });
}

/** @throws ConfigError for an architecture or a loss of another task: the data sources deliver one label per image. */
export function requireClassifier({ model, train }: Config): void {
  for (const { message, hint } of unfedLosses({ train })) {
    throw new ConfigError({ what: message, where: 'train.loss', fix: hint });
  }
  const { name, task } = findArchitecture(model.name);
  if (task === 'classification') return;
  throw new ConfigError({
    what: `"${name}" is for ${task}, but this job trains on images with one label each`,
    where: 'model.name',
    fix: 'name a classifier (`fornax models` lists the tasks), or train it from a script: new Trainer() with memoryData()',
  });
}
