/** Evaluation of a finished model on labelled images. Needs the model file alone: no source, no config. */
import { availableParallelism } from 'node:os';

import { prepareSplit } from '../data/evaluation_split.js';
import { loaderOptions } from '../data/loader_options.js';
import { ArgumentError, DataError } from '../errors.js';
import { Model } from '../model.js';
import { normalizeOf, type FixedPreprocessing } from '../model/info.js';
import type { EvaluationResult, MetricAverages } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { describeDevice, resolveDevice } from '../train/devices.js';
import type { EvaluationMetrics, Report } from '../train/events.js';
import { evaluationAugment } from '../train/train_data.js';
import { evaluationSession, runEvaluation } from './run_evaluation.js';

export interface EvaluateOptions {
  /** Folder inside the data; default: val, valid, validation or test if there is one, else the data itself. */
  split?: string;
  source?: 'auto' | 'folder' | 'idx' | 'shapes';
  /** `auto` (default), `cpu`, `cuda`, `cuda:N`. */
  device?: string;
  /** Default 128. */
  batchSize?: number;
  /** Images that cannot be decoded: `skip` (default, reported) or `fail`. */
  onBroken?: 'skip' | 'fail';
  /** Folder for packs. Default `$FORNAX_CACHE`, else `~/.cache/fornax`. */
  cache?: string | null;
  report?: Report;
  signal?: AbortSignal;
}

export interface ClassResult {
  label: string;
  samples: number;
  correct: number;
  /** Null for a class without samples. */
  accuracy: number | null;
  /** Shares, 0…1; 0 where nothing was predicted or nothing is there. */
  precision: number;
  recall: number;
  f1: number;
  /** Area under the ROC curve, this class against the rest; null for a class without samples or without others. */
  auroc: number | null;
}

export interface EvaluationReport extends EvaluationMetrics {
  /** Shares of the images, 0…1. */
  top1: number;
  top5: number;
  /** Means over the classes that occur as label or prediction. */
  macro: MetricAverages;
  /** Means weighted by the images of each class. */
  weighted: MetricAverages;
  /** One-vs-rest area under the ROC curve, mean over the classes with images; null above 1 GiB of scores. */
  auroc: number | null;
  /** Expected calibration error: 15 bins of the highest softmax, l1. */
  ece: number;
  classes: ClassResult[];
  /** Row = target, column = prediction, counts. */
  confusion: number[][];
  seconds: number;
  device: string;
}

/** What a classifier must know about itself to be fed with image files. */
export function requirePreprocessing(model: Model): FixedPreprocessing {
  const { preprocessing, name, task } = model.info;
  if (task === 'segmentation') {
    throw new ArgumentError({
      what: `predict and eval do not take segmentation models yet, and '${name}' is one`,
      fix: 'run it from a script with model.forward(), or write it for another program with `fornax export`',
    });
  }
  if (preprocessing) {
    const { resize, size, ...rest } = preprocessing;
    if (resize !== null && size !== null) return { ...rest, resize, size };
    throw new ArgumentError({
      what: `the model '${name}' (${task}) takes images of any size and does not classify`,
      fix: task === 'detection' ? 'find faces with `fornax predict` or detectFaces()' : 'give a classifier',
    });
  }
  throw new ArgumentError({
    what: `the model '${name}' does not say how images become its input`,
    fix: 'set `model.info.preprocessing` before saving it; models trained by Fornax have it',
  });
}

/**
 * Top-1, top-5, loss, macro and weighted precision, recall and F1, AUROC, calibration error, the figures of each
 * class and the confusion matrix.
 *
 * @param model a model, or the path of its file (which is then disposed afterwards).
 * @param data folder of the images (`<class>/<file>`, or with `val/` or `test/` in it), or IDX files.
 * @throws WeightsError, GraphError for the model; ConfigError, DataError for the data; AbortedError.
 */
export async function evaluateModel(
  model: Model | string,
  data: string | null,
  options: EvaluateOptions = {},
): Promise<EvaluationReport> {
  const report: Report = options.report ?? (() => undefined);
  const info = loadAddon().systemInfo();
  const device = resolveDevice(options.device ?? 'auto', info);
  const loaded = typeof model === 'string' ? await Model.load(model) : model;
  try {
    const preprocessing = requirePreprocessing(loaded);
    const { labels } = loaded.info;
    if (labels.length === 0) throw new ArgumentError(`the model '${loaded.info.name}' has no class labels`);
    report({
      type: 'device',
      phase: 'eval',
      device: device.device,
      deviceName: device.name,
      amp: 'off',
      message: describeDevice('eval', device, info),
    });
    const { split, broken, warnings } = await prepareSplit(
      {
        source: options.source ?? 'auto',
        path: data,
        classes: labels,
        channels: preprocessing.channels,
        resolution: preprocessing.size,
        ...(preprocessing.pack_size === null
          ? { pack: 'original' as const }
          : { pack: 'resized' as const, packSize: preprocessing.pack_size }),
        onBroken: options.onBroken ?? 'skip',
        cache: options.cache ?? null,
        ...(options.split === undefined ? {} : { split: options.split }),
      },
      {
        onProgress: ({ split: name, done, total }) =>
          report({ type: 'data_progress', split: name, done, total, stage: 'Decoding images' }),
        ...(options.signal ? { signal: options.signal } : {}),
      },
    );
    for (const message of warnings) report({ type: 'warning', message });
    for (const { path, reason } of broken)
      report({ type: 'warning', message: `left out: ${path}: ${reason}` });
    if (split.samples === 0)
      throw new DataError({ what: 'there are no images to evaluate on', where: split.location });
    const session = evaluationSession(loaded.native, {
      device: device.device,
      normalize: normalizeOf(preprocessing),
    });
    try {
      const result = (await runEvaluation(
        session,
        {
          ...loaderOptions(split, {
            channels: preprocessing.channels,
            resolution: preprocessing.size,
            batchSize: options.batchSize ?? 128,
            seed: 0,
            train: false,
            threads: Math.max(1, availableParallelism() - 1),
          }),
          augment: evaluationAugment(preprocessing),
        },
        {
          classes: labels.length,
          auroc: true,
          signal: options.signal,
          onProgress: (done, total) => report({ type: 'evaluation_progress', epoch: null, done, total }),
        },
      )) as EvaluationResult; // labels are not empty
      const confusion = rows(result.confusion, labels.length);
      report({
        type: 'evaluation',
        epoch: null,
        step: null,
        best: false,
        weights: 'file',
        loss: result.loss,
        top1: result.top1,
        top5: result.top5,
        samples: result.samples,
        seconds: result.seconds,
      });
      return {
        loss: result.loss,
        top1: result.top1,
        top5: result.top5,
        samples: result.samples,
        seconds: result.seconds,
        device: device.device,
        macro: result.macro,
        weighted: result.weighted,
        auroc: result.auroc,
        ece: result.ece,
        confusion,
        classes: labels.map((label, i) => classResult(label, confusion[i]!, i, result)),
      };
    } finally {
      session.dispose();
    }
  } finally {
    if (typeof model === 'string') loaded.dispose();
  }
}

function rows(flat: readonly number[], classes: number): number[][] {
  return Array.from({ length: classes }, (_, row) => flat.slice(row * classes, (row + 1) * classes));
}

function classResult(
  label: string,
  row: readonly number[],
  index: number,
  { per_class: scores, auroc_per_class: areas }: EvaluationResult,
): ClassResult {
  const samples = row.reduce((sum, count) => sum + count, 0);
  const correct = row[index]!;
  return {
    label,
    samples,
    correct,
    accuracy: samples === 0 ? null : correct / samples,
    precision: scores.precision[index]!,
    recall: scores.recall[index]!,
    f1: scores.f1[index]!,
    auroc: areas[index] ?? null,
  };
}
