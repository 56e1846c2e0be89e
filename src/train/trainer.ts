/** Training from a script. */
import path from 'node:path';

import { defineConfig } from '../config/load.js';
import type { ConfigInput } from '../config/schema.js';
import { ArgumentError, TrainError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { acquireLock } from '../io/lock.js';
import type { Model } from '../model.js';
import { CheckpointStore, type BestRecord, type EpochRecord } from './checkpoint.js';
import type { TrainData } from './data.js';
import { EventQueue } from './event_queue.js';
import type { EvaluationMetrics, JobEvent, Report } from './events.js';
import { keepBest, recomputeAfterTraining } from './finish_run.js';
import { prepareTrainData } from './train_data.js';
import { checkTeacher, openTeacher } from './teacher.js';
import { labelled, trainLoss } from './train_loss.js';
import { TrainingRun } from './training_run.js';
import type { RunConfig } from './training_run_types.js';

/** The sections `train`, `device`, `eval` and `checkpoint` of a configuration, in camelCase, and what they act on. */
export interface TrainerOptions extends Pick<ConfigInput, 'train' | 'device' | 'eval' | 'checkpoint'> {
  /** Trained in place. */
  model: Model;
  data: TrainData;
  /**
   * A traced loss over the model's outputs and the batch's fields. Default: what `train.loss` and
   * `train.labelSmoothing` describe.
   */
  loss?: Graph;
  /**
   * A model whose logits the loss compares with, as the batch's field `teacher`: for `{ name: 'distillation' }` in
   * `train.loss`, or a loss of your own. It stays as it is.
   */
  teacher?: Model;
  /** Folder for checkpoints. Without it there are none, and the last weights are kept instead of the best. */
  folder?: string;
}

export interface FitOptions {
  /** Finishes the current step, writes a checkpoint (if there is a folder) and ends the iteration. */
  signal?: AbortSignal;
  /** Go on from the newest checkpoint in the folder; `true`: there must be one. Default false. */
  resume?: boolean | 'auto';
}

/**
 * Trains a model: `for await (const event of trainer.fit()) …`. Leaving the loop early stops training after the
 * current step.
 */
export class Trainer {
  /** One entry per completed epoch. */
  history: EpochRecord[] = [];
  best: BestRecord | null = null;
  /** Of the newest evaluation. */
  metrics: EvaluationMetrics | null = null;
  interrupted = false;
  private readonly config: RunConfig;
  private running = false;

  /** @throws ConfigError listing every setting that is not valid. */
  constructor(private readonly options: TrainerOptions) {
    const { train, device, eval: evaluation, checkpoint } = options;
    // The data is given as an object; its section is only there because a configuration has one.
    const config = defineConfig({ train, device, eval: evaluation, checkpoint, data: { source: 'shapes' } });
    this.config = {
      train: config.train,
      device: config.device,
      eval: config.eval,
      checkpoint: config.checkpoint,
    };
  }

  /**
   * Trains and yields what happens. Ends when training is done or was interrupted.
   *
   * @throws TrainError, DataError, DeviceError, ExecutionError from the iteration.
   */
  async *fit(options: FitOptions = {}): AsyncGenerator<JobEvent, void, void> {
    if (this.running) throw new TrainError('this trainer is training already');
    this.running = true;
    const left = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    const queue = new EventQueue<JobEvent>();
    const job = this.run((event) => queue.push(event), signal, options.resume ?? false).then(
      () => queue.end(),
      (error: unknown) => queue.end(error),
    );
    try {
      yield* queue;
    } finally {
      left.abort();
      await job;
      this.running = false;
    }
  }

  private async run(report: Report, signal: AbortSignal, resume: boolean | 'auto'): Promise<void> {
    const { folder } = this.options;
    if (folder === undefined) {
      if (resume === true)
        throw new ArgumentError({ what: 'there is nothing to resume from', fix: 'give a `folder`' });
      return this.train(report, signal, null, false);
    }
    const lock = await acquireLock(path.join(folder, '.lock'));
    if ('heldBy' in lock)
      throw new TrainError({ what: `another process trains in this folder (${lock.heldBy})`, where: folder });
    try {
      const store = new CheckpointStore(path.join(folder, 'checkpoints'), {
        keep: this.config.checkpoint.keep,
      });
      await store.sweep();
      await this.train(report, signal, store, resume);
    } finally {
      await lock.release();
    }
  }

  private async train(
    report: Report,
    signal: AbortSignal,
    store: CheckpointStore | null,
    resume: boolean | 'auto',
  ): Promise<void> {
    const { model, data, loss } = this.options;
    const checkpoint =
      store && resume !== false
        ? await store.newest((message) => report({ type: 'warning', message }))
        : null;
    if (resume === true && !checkpoint) {
      throw new TrainError({
        what: 'there is nothing to resume: the folder has no checkpoint',
        where: store!.folder,
      });
    }
    if (store && !checkpoint && (await store.list()).length > 0) {
      throw new TrainError({
        what: 'the folder holds checkpoints of an earlier training',
        where: store.folder,
        fix: 'use resume, or another folder',
      });
    }
    const { train } = this.config;
    // Without a loss of their own, scripts too may name the teacher's file.
    using opened = this.options.teacher || loss ? null : await openTeacher(train);
    const teacher = this.options.teacher ?? opened;
    if (teacher) checkTeacher(teacher, data.classes);
    const started = performance.now();
    const run = new TrainingRun({
      model,
      data,
      config: this.config,
      loss: loss ?? trainLoss(model.graph, train, labelled(data.classes, teacher)),
      teacher,
      store,
      report: (event) => {
        if (event.type === 'evaluation') this.metrics = event;
        report(event);
      },
      signal,
    });
    const result = await run.run(checkpoint);
    this.history = result.history;
    this.best = result.best;
    this.interrupted = result.interrupted;
    if (result.interrupted) {
      report({ type: 'interrupted', step: result.step, checkpoint: result.checkpoint, signal: null });
      return;
    }
    const kept = await keepBest(model, store, result, { averaged: train.ema !== null, report });
    const recomputed = await recomputeAfterTraining({ model, data, config: this.config, report, signal });
    const evaluation =
      (recomputed && {
        loss: recomputed.loss,
        top1: recomputed.top1,
        top5: recomputed.top5,
        samples: recomputed.samples,
      }) ??
      result.history.find(({ epoch }) => epoch === kept.epoch)?.evaluation ??
      null;
    this.metrics = evaluation;
    model.info = {
      ...model.info,
      labels: [...data.classes],
      preprocessing: data.preprocessing,
      metrics: evaluation ? { ...evaluation } : {},
    };
    report({
      type: 'done',
      modelPath: null,
      folder: this.options.folder ?? null,
      epochs: result.epochs,
      steps: result.step,
      seconds: (performance.now() - started) / 1000,
      metrics: evaluation,
    });
  }
}

export interface PrepareDataOptions {
  /** Input size where `resolution` is not given. Default [224, 224]. */
  resolution?: readonly [number, number];
  /** Seed of the held-out share and of `limit`. Default 0. */
  seed?: number;
  report?: Report;
  signal?: AbortSignal;
}

/**
 * Finds images and decodes them once into a pack. Takes the `data` section of a configuration, in camelCase.
 *
 * @throws ConfigError, DataError.
 */
export async function prepareData(
  data: NonNullable<ConfigInput['data']>,
  options: PrepareDataOptions = {},
): Promise<TrainData> {
  const { report, signal } = options;
  return prepareTrainData(defineConfig({ data }).data, {
    defaultResolution: options.resolution ?? [224, 224],
    seed: options.seed ?? 0,
    ...(report ? { report } : {}),
    ...(signal ? { signal } : {}),
  });
}
