/** The end of a run: the weights to keep, their figures, the model file and the summary. */
import path from 'node:path';

import { toSnake } from '../config/case.js';
import { fixedTrain } from '../config/fixed_train.js';
import type { Config } from '../config/schema.js';
import { AbortedError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import type { Model } from '../model.js';
import { portableProvenance } from '../model/provenance.js';
import { loadAddon } from '../native.js';
import { fornaxVersion } from '../version.js';
import { loadAverages } from './averaged_model.js';
import { MODEL_FILE, type CheckpointStore } from './checkpoint.js';
import type { TrainData } from './data.js';
import { figuresOf, modelMetrics } from './evaluation_figures.js';
import { Evaluator, type Evaluation } from './evaluator.js';
import type { DoneEvent, EvaluationMetrics, Report } from './events.js';
import { frozenPaths } from './parameter_groups.js';
import { peakMemory } from './memory.js';
import { hasBatchNorm, recomputeBatchNorm } from './recompute_batch_norm.js';
import { chooseDevices } from './run_devices.js';
import type { RunFolder } from './run_folder.js';
import { isAveraged, recomputedBatches } from './swa.js';
import type { RunConfig, TrainingResult, TrainingRunOptions } from './training_run_types.js';

/**
 * Loads the weights of the best epoch into the model, if a later one was worse and its checkpoint is there.
 *
 * @param averaged the weights that were evaluated are the averages (`train.ema`, `train.swa`).
 * @returns which weights the model has now, and of which epoch.
 */
export async function keepBest(
  model: Model,
  store: CheckpointStore | null,
  result: TrainingResult,
  { averaged, report }: { averaged: boolean; report: Report },
): Promise<{ weights: 'best' | 'last' | 'average'; epoch: number }> {
  const { best } = result;
  if (result.swaBegun) return { weights: 'average', epoch: result.epochs };
  if (!best || !store || (best.epoch === result.epochs && result.epochEnd))
    return { weights: 'last', epoch: result.epochs };
  const checkpoint = await store.best(best);
  if (!checkpoint) {
    report({
      type: 'warning',
      message: `the checkpoint of the best epoch (${best.epoch}) is gone; keeping the last weights`,
    });
    return { weights: 'last', epoch: result.epochs };
  }
  await model.loadWeights(path.join(checkpoint.path, MODEL_FILE), { strict: true });
  if (averaged) {
    const snapshot = await store.optimizer(checkpoint);
    try {
      loadAverages(model, snapshot);
    } finally {
      for (const tensor of Object.values(snapshot)) tensor.dispose();
    }
  }
  return { weights: 'best', epoch: best.epoch };
}

export interface FinishOptions {
  config: Config;
  folder: RunFolder;
  store: CheckpointStore;
  model: Model;
  data: TrainData;
  result: TrainingResult;
  /** `performance.now()` of the beginning. */
  started: number;
  /** Called right before the model file is written, after which nothing of the run may be missing. */
  logDone: (event: DoneEvent) => void;
  report: Report;
  signal?: AbortSignal | undefined;
}

/** Writes summary.json and, last of all, model.safetensors: where that is, the run is complete. */
export async function finishRun(options: FinishOptions): Promise<EvaluationMetrics | null> {
  const { config, folder, store, model, data, result, report } = options;
  const kept = await keepBest(model, store, result, { averaged: isAveraged(config.train), report });
  const known = knownEvaluation(result, kept);
  const recomputed = await recomputeAfterTraining(options, known);
  const evaluated = recomputed ?? known ?? (data.evalSamples === null ? null : await evaluate(options));
  const metrics: EvaluationMetrics | null = evaluated && figuresOf(evaluated);
  if (evaluated && metrics) {
    report({
      type: 'evaluation',
      ...metrics,
      epoch: null,
      step: null,
      best: kept.weights === 'best',
      seconds: evaluated.seconds,
      weights: kept.weights,
    });
  }
  const seconds = (performance.now() - options.started) / 1000;
  const { skippedSteps } = result;
  const skipped = skippedSteps !== undefined && { skippedSteps };
  await folder.writeSummary({
    name: config.name,
    model: config.model.name,
    modelPath: folder.paths.model,
    epochs: result.epochs,
    steps: result.step,
    stopped: result.stopped,
    ...skipped,
    weights: kept,
    metrics,
    best: result.best,
    seconds,
    trainSamples: data.trainSamples,
    evalSamples: data.evalSamples,
    classes: data.classes,
    history: result.history,
  });
  const done: DoneEvent = {
    type: 'done',
    modelPath: folder.paths.model,
    folder: folder.folder,
    epochs: result.epochs,
    steps: result.step,
    seconds,
    metrics,
    ...skipped,
    peakMemory: peakMemory(config),
  };
  options.logDone(done);
  await model.save(folder.paths.model, {
    metrics: modelMetrics(metrics),
    provenance: portableProvenance({
      created: new Date().toISOString(),
      fornax_version: fornaxVersion(),
      torch_version: loadAddon().systemInfo().torch_version,
      run: config.name,
      epoch: kept.epoch,
      epochs: result.epochs,
      steps: result.step,
      data_fingerprint: data.fingerprint,
      train_samples: data.trainSamples,
      eval_samples: data.evalSamples,
      config: toSnake(config),
    }),
  });
  report(done);
  return metrics;
}

/** What `recomputeAfterTraining` needs. */
export type FinishedTraining = Pick<FinishOptions, 'model' | 'data' | 'result' | 'report' | 'signal'> & {
  config: RunConfig;
} & Pick<TrainingRunOptions, 'metrics'> & { loss?: Graph };

/**
 * The figures of the weights that are kept, where the end of an epoch has evaluated these very weights: an evaluation
 * that gives the same again may take minutes. Null where it did not: for those of the middle of an epoch, say.
 */
export function knownEvaluation(
  { history, epochEnd }: TrainingResult,
  { weights, epoch }: { weights: 'best' | 'last' | 'average'; epoch: number },
): Evaluation | null {
  if (weights !== 'best' && !epochEnd) return null;
  const evaluation = history.find((record) => record.epoch === epoch)?.evaluation;
  return evaluation ? { ...evaluation, seconds: 0 } : null;
}

/**
 * Batch-norm statistics from training images, where the config asks for them; tells what they did.
 *
 * @param known figures of the model as it is, if there are any.
 * @returns the figures of the model as it is then; null where nothing changed or there are no images for it.
 */
export async function recomputeAfterTraining(
  options: FinishedTraining,
  known: Evaluation | null,
): Promise<Evaluation | null> {
  const { config, data, model, report, signal } = options;
  const { bnRecompute, batchSize, seed } = fixedTrain(config.train);
  const batches = recomputedBatches(config.train, options.result);
  if (batches === null) return null;
  if (!hasBatchNorm(model.graph)) {
    if (bnRecompute === null) return null;
    report({ type: 'warning', message: 'train.bn_recompute has no effect: the model has no batch norm' });
    return null;
  }
  const before = known ?? (data.evalSamples === null ? null : await evaluate(options));
  await recomputeBatchNorm(model, {
    batches,
    device: chooseDevices(config).eval.device,
    normalize: data.preprocessing?.normalize ?? null,
    loader: data.loaderOptions('train', { batchSize, seed }),
    frozen: frozenPaths(model.graph, config.train),
    report,
    signal,
  });
  const after = before && (await evaluate(options));
  if (before?.top1 != null && after?.top1 != null) {
    const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;
    report({
      type: 'info',
      message: `BatchNorm statistics: top-1 ${percent(before.top1)} before, ${percent(after.top1)} after`,
    });
  }
  return after;
}

async function evaluate({ config, ...rest }: FinishedTraining): Promise<Evaluation> {
  const { model, data, loss, metrics, report, signal } = rest;
  const device = chooseDevices(config).eval.device;
  const { batchSize } = config.eval;
  const threads = config.train.threads === 'auto' ? undefined : config.train.threads;
  const evaluator = new Evaluator({ model, data, loss, metrics, device, batchSize, threads, report, signal });
  try {
    const result = await evaluator.evaluate(null);
    if (!result) throw new AbortedError('the final evaluation was stopped');
    return result;
  } finally {
    evaluator.dispose();
  }
}
