/** From a parsed config to the one the jobs read: shorthands spelt out, derived values filled in. */
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import type { z } from 'zod';
import { toCamel } from './case.js';
import type { Config, configSchema } from './schema.js';
import { parseSize } from './size.js';

/** Characters a run's name may not hold become dashes. */
function runName(model: string, data: { source: string; path: string | null }): string {
  const folder = data.path === null ? data.source : basename(resolve(data.path));
  return `${model}-${folder}`.replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[.-]+/, '');
}

/** What `train.lr: auto` comes to. Goyal et al. 2017: the rate grows with the images of one optimizer step. */
export function defaultRate(optimizer: string, imagesPerStep: number): number {
  const perImages = { sgd: 0.1, lars: 1 }[optimizer];
  if (perImages !== undefined) return Number(((perImages * imagesPerStep) / 256).toPrecision(6));
  return { lion: 1e-4, adagrad: 1e-2, lamb: 5e-3 }[optimizer] ?? 1e-3;
}

/** YAML knows nothing of the shell's `~`. */
function expandHome<T extends string | null>(path: T): T | string {
  return path?.startsWith('~/') ? join(homedir(), path.slice(2)) : path;
}

/** What a config does not say of the training it is for. */
export interface Circumstances {
  /** That train together. Default 1. */
  processes?: number;
  /** Whether the data have classes, as those of a config do. Default true. */
  classes?: boolean;
}

/** Which figure decides what the best epoch is, and whether less of it is better. */
function resolveMonitor(
  { monitor, mode }: Pick<z.output<typeof configSchema>['checkpoint'], 'monitor' | 'mode'>,
  classes: boolean,
): Pick<Config['checkpoint'], 'monitor' | 'mode'> {
  const name = monitor === 'auto' ? (classes ? 'top1' : 'loss') : monitor;
  return { monitor: name, mode: mode === 'auto' ? (name === 'loss' ? 'min' : 'max') : mode };
}

/** Fills in what follows from other keys, and from what the training is for. */
export function complete(
  parsed: z.output<typeof configSchema>,
  { processes = 1, classes = true }: Circumstances = {},
): Config {
  const { name, data, train, memory, checkpoint, ...rest } = toCamel(parsed);
  const { resolution } = data;
  return {
    name: name ?? runName(rest.model.name, data),
    ...rest,
    model: {
      ...rest.model,
      pretrained: expandHome(rest.model.pretrained),
      weightsDir: expandHome(rest.model.weightsDir),
    },
    run: { ...rest.run, dir: expandHome(rest.run.dir) },
    data: {
      ...data,
      path: expandHome(data.path),
      cache: expandHome(data.cache),
      resolution: typeof resolution === 'number' ? [resolution, resolution] : resolution,
    },
    train: {
      ...train,
      loss: train.loss.map((loss) =>
        loss.name === 'distillation' ? { ...loss, teacher: expandHome(loss.teacher) } : loss,
      ),
      lr:
        train.lr === 'auto' && train.batchSize !== 'auto'
          ? defaultRate(train.optimizer.name, train.batchSize * train.gradAccum * processes)
          : train.lr,
    },
    memory: {
      ...memory,
      budget: typeof memory.budget === 'string' ? parseSize(memory.budget) : memory.budget,
    },
    checkpoint: { ...checkpoint, ...resolveMonitor(checkpoint, classes) },
  };
}
