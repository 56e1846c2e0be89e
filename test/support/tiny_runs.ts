/** Runs of a tiny network on a small folder of images, for the tests of one file. */
import path from 'node:path';
import { after, before } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import type { Config, ConfigInput } from '#fornax/config/schema.js';
import type { JobEvent } from '#fornax/train/events.js';
import { trainJob, type TrainJobOptions, type TrainOutcome } from '#fornax/train/job.js';

import { temporaryFolder, writeColourFolder } from './image_folder.js';

export interface TinyRuns {
  /** A temporary folder; `images` and `runs` are in it. There from `before` to `after`. */
  readonly root: string;
  readonly images: string;
  /** Sections of `changes` replace the defaults' ones, but `train` is laid over them. */
  config: (name: string, changes?: Partial<ConfigInput>) => Config;
  run: (given: Config, options?: TrainJobOptions) => Promise<{ outcome: TrainOutcome; events: JobEvent[] }>;
  /** The folder of a run. */
  folder: (name: string) => string;
  /** The folder of its checkpoint at a step. */
  checkpoint: (name: string, step: number) => string;
}

/**
 * Called at the top level of a test file: makes the folder before its tests and removes it after them.
 *
 * @param defaults of every config.
 */
export function tinyRuns(defaults: Partial<ConfigInput> = {}): TinyRuns {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  before(async () => {
    folder = await temporaryFolder();
    await writeColourFolder(path.join(folder.path, 'images'));
  });
  after(() => folder[Symbol.asyncDispose]());
  return {
    get root() {
      return folder.path;
    },
    get images() {
      return path.join(folder.path, 'images');
    },
    config: (name, changes = {}) =>
      defineConfig({
        name,
        model: { name: 'tiny_cnn' },
        // Bits are compared: nothing may be chosen by timing.
        device: 'cpu',
        data: {
          path: path.join(folder.path, 'images'),
          cache: path.join(folder.path, 'cache'),
          resolution: 24,
        },
        run: { dir: path.join(folder.path, 'runs') },
        ...defaults,
        ...changes,
        train: { epochs: 3, batchSize: 8, lr: 0.05, amp: 'off', ...defaults.train, ...changes.train },
      }),
    run: async (given, options = {}) => {
      const events: JobEvent[] = [];
      const outcome = await trainJob(given, {
        ...options,
        report: (event) => {
          events.push(event);
          options.report?.(event);
        },
      });
      return { outcome, events };
    },
    folder: (name) => path.join(folder.path, 'runs', name),
    checkpoint: (name, step) =>
      path.join(folder.path, 'runs', name, 'checkpoints', `step-${String(step).padStart(8, '0')}`),
  };
}
