/**
 * Two trials before a long run, in a temporary folder: the dry run does a batch of every phase, the overfit check
 * trains on a handful of images, which any sound setup can learn by heart.
 */
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { fixedTrain } from '../config/fixed_train.js';
import type { Config } from '../config/schema.js';
import { AbortedError, TrainError } from '../errors.js';
import { Model } from '../model.js';
import type { LoaderOptions } from '../native/contract.js';
import { LARGEST } from './batch_size.js';
import type { ImageTrainData } from './data.js';
import type { EvaluationMetrics, Report } from './events.js';
import { trainJob } from './job.js';
import { evaluationAugment } from './train_data.js';
import { CONSTANT_SCHEDULE, scheduleOptions } from './train_options.js';

export interface TrialOptions {
  report?: Report;
  signal?: AbortSignal;
}

/** The first `count` samples of a loader. */
function firstOf(options: LoaderOptions, count: number): LoaderOptions {
  const all = options.shards.reduce((sum, { labels }) => sum + labels.shape[0]!, 0);
  const indices = options.indices ?? Int32Array.from({ length: all }, (_, i) => i);
  return { ...options, indices: indices.slice(0, count) };
}

/** What becomes of the temporary run is no news: its model is gone by the time that anybody could look at it. */
function withoutOutcome(report: Report | undefined): Report {
  return (event) => {
    if (event.type !== 'done' && event.type !== 'interrupted') report?.(event);
  };
}

async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await fs.mkdtemp(path.join(tmpdir(), 'fornax-trial-'));
  try {
    return await work(folder);
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
}

/**
 * One optimizer step, one batch of evaluation, a checkpoint, the model file and its loading. The images are packed
 * as for the run itself, which then finds them in the cache.
 *
 * @throws what the run would throw.
 */
export async function dryRun(config: Config, options: TrialOptions = {}): Promise<void> {
  const { gradAccum } = config.train;
  // Enough images for whatever size is found.
  const batchSize = config.train.batchSize === 'auto' ? LARGEST.cuda : config.train.batchSize;
  const cut = (data: ImageTrainData): ImageTrainData => {
    checkSchedule(config, data.trainSamples);
    return {
      ...data,
      trainSamples: Math.min(data.trainSamples, batchSize * gradAccum),
      evalSamples: data.evalSamples === null ? null : Math.min(data.evalSamples, config.eval.batchSize),
      loaderOptions: (phase, request) =>
        firstOf(
          data.loaderOptions(phase, request),
          phase === 'train' ? request.batchSize * gradAccum : config.eval.batchSize,
        ),
    };
  };
  await inTemporaryFolder(async (folder) => {
    // Epochs of a single step: the run's warm-up, and intervals in steps, may be longer than all of them. Without
    // it the schedule is the run's own, so that what the native core refuses of it is found here.
    const swa = config.train.swa && { ...config.train.swa, intervalSteps: null };
    const schedule = { ...config.train.schedule, warmupEpochs: 0, warmupSteps: null };
    const train = { ...config.train, swa, schedule };
    const trial: Config = { ...config, name: 'dry-run', run: { ...config.run, dir: folder }, train };
    const outcome = await trainJob(trial, {
      ...(options.signal && { signal: options.signal }),
      report: withoutOutcome(options.report),
      data: cut,
      epochLimit: 1,
    });
    if (outcome.modelPath === null) throw new AbortedError('the dry run was stopped');
    (await Model.load(outcome.modelPath)).dispose();
  });
  options.report?.({
    type: 'info',
    message:
      'Dry run done: a step, an evaluation, a checkpoint and the model file all worked; nothing was kept',
  });
}

/** @throws ConfigError where the schedule does not fit into the run's steps, if their number is known. */
function checkSchedule({ train }: Config, samples: number): void {
  if (train.batchSize === 'auto') return;
  const batches = Math.ceil(samples / train.batchSize);
  scheduleOptions(fixedTrain(train), Math.ceil(batches / train.gradAccum));
}

/** Loss at which images count as learnt by heart: about 95 % probability for the right class. */
const LEARNT_LOSS = 0.05;
const MOST_EPOCHS = 300;

/**
 * Trains on the first `images` training images, without augmentation, and evaluates on the same ones until they
 * are known by heart.
 *
 * @returns the figures of the last evaluation.
 * @throws TrainError if they are not learnt within 300 epochs: something is wrong with model, loss, rate or labels.
 */
export async function overfitCheck(
  config: Config,
  images: number,
  options: TrialOptions = {},
): Promise<EvaluationMetrics> {
  const learnt = new AbortController();
  let metrics = null as EvaluationMetrics | null;
  const tell = withoutOutcome(options.report);
  const report: Report = (event) => {
    tell(event);
    if (event.type !== 'evaluation') return;
    metrics = event;
    if (event.top1 === 1 && event.loss !== null && event.loss < LEARNT_LOSS) learnt.abort();
  };
  const memorise = (data: ImageTrainData): ImageTrainData => {
    const same = (request: Parameters<ImageTrainData['loaderOptions']>[1]): LoaderOptions => ({
      ...firstOf(data.loaderOptions('train', request), images),
      augment: evaluationAugment(data.preprocessing),
      drop_last: false,
    });
    return {
      ...data,
      trainSamples: Math.min(data.trainSamples, images),
      evalSamples: Math.min(data.trainSamples, images),
      loaderOptions: (phase, request) => ({ ...same(request), shuffle: phase === 'train' }),
    };
  };
  await inTemporaryFolder(async (folder) => {
    const trial: Config = {
      ...config,
      name: 'overfit',
      run: { ...config.run, dir: folder },
      train: {
        ...config.train,
        epochs: MOST_EPOCHS,
        earlyStopping: null,
        maxTime: null,
        ema: null,
        swa: null,
        bnRecompute: null,
        mixup: 0,
        cutmix: 0,
        // Neither warm-up nor decay, and no average: what is checked is whether anything is learnt at all.
        schedule: { ...CONSTANT_SCHEDULE },
      },
      checkpoint: { ...config.checkpoint, everyEpochs: MOST_EPOCHS },
      eval: { ...config.eval, everyEpochs: 5 },
    };
    const signal = options.signal ? AbortSignal.any([options.signal, learnt.signal]) : learnt.signal;
    await trainJob(trial, { report, signal, data: memorise });
    if (options.signal?.aborted) throw new AbortedError('the overfit check was stopped');
  });
  const { top1, loss } = metrics ?? { top1: 0, loss: null };
  const figures = `top-1 ${(100 * (top1 ?? 0)).toFixed(1)} %, loss ${loss === null ? 'none' : loss.toFixed(4)}`;
  if (metrics === null || !learnt.signal.aborted) {
    throw new TrainError({
      what: `the model did not learn ${images} images by heart in ${MOST_EPOCHS} epochs: ${figures}`,
      fix: 'check the labels, train.lr (try --set train.lr=… up and down), data.normalize and frozen modules',
    });
  }
  options.report?.({
    type: 'info',
    message: `Overfit check passed: ${images} images learnt by heart (${figures})`,
  });
  return metrics;
}
