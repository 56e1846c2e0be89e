/** From the `data` section of a configuration to what a trainer takes. */
import type { Config } from '../config/schema.js';
import { resolveNormalize } from '../config/normalize.js';
import { loaderOptions, evaluationResize } from '../data/loader_options.js';
import { prepareDataset, type Dataset } from '../data/dataset.js';
import type { FixedPreprocessing, Preprocessing } from '../model/info.js';
import type { AugmentOptions } from '../native/contract.js';
import { PACK_FIELDS, type ImageTrainData } from './data.js';
import type { Report } from './events.js';

export interface PrepareTrainDataOptions {
  /** Input size where the configuration says `auto`, [height, width]. */
  defaultResolution: readonly [number, number];
  /** Seed of the held-out share and of `data.limit`. */
  seed: number;
  /** Preprocessing of the pretrained model, for `data.normalize: auto`. */
  pretrained?: Preprocessing | null;
  report?: Report;
  signal?: AbortSignal | undefined;
}

/** Geometry of evaluation and use, as the loader takes it. */
export function evaluationAugment(preprocessing: FixedPreprocessing): AugmentOptions {
  return { size: preprocessing.size, crop: { kind: 'resize_crop', resize: preprocessing.resize } };
}

/**
 * Finds and packs the images.
 *
 * @throws ConfigError, DataError as `prepareDataset`.
 */
export async function prepareTrainData(
  data: Config['data'],
  options: PrepareTrainDataOptions,
): Promise<ImageTrainData & { dataset: Dataset }> {
  const { report, signal } = options;
  const resolution = data.resolution === 'auto' ? options.defaultResolution : data.resolution;
  const dataset = await prepareDataset(
    {
      source: data.source,
      path: data.path,
      trainSplit: data.train,
      valSplit: data.val,
      valFraction: data.valFraction,
      channels: data.channels,
      resolution,
      pack: data.pack,
      onBroken: data.onBroken,
      cache: data.cache,
      seed: options.seed,
      limit: data.limit,
    },
    {
      onProgress: ({ split, done, total }) =>
        report?.({ type: 'data_progress', split, done, total, stage: 'Decoding images' }),
      onWait: (owner) =>
        report?.({ type: 'info', message: `Waiting for ${owner}, which decodes the same images` }),
      ...(signal ? { signal } : {}),
    },
  );
  reportProblems(dataset, report);
  const preprocessing = choosePreprocessing(data, dataset, resolution, options.pretrained ?? null);
  const { train, val } = dataset;
  return {
    dataset,
    classes: dataset.classes,
    trainSamples: train.samples,
    evalSamples: val?.samples ?? null,
    fingerprint: dataset.fingerprint,
    fields: PACK_FIELDS,
    preprocessing,
    loaderOptions(phase, request) {
      const split = phase === 'train' ? train : val!;
      const { batchSize, seed, threads } = request;
      const common = { channels: dataset.channels, resolution, batchSize, seed, threads };
      if (phase === 'eval') {
        return {
          ...loaderOptions(split, { ...common, train: false }),
          augment: evaluationAugment(preprocessing),
        };
      }
      return loaderOptions(split, {
        ...common,
        train: true,
        augment: data.augment,
        // Batch norm cannot train on a single sample, which the last batch of an epoch may be.
        dropLast: split.samples > batchSize && split.samples % batchSize === 1,
      });
    },
  };
}

/** Images that have the input's size already are used whole; others as published models are evaluated. */
function choosePreprocessing(
  data: Config['data'],
  dataset: Dataset,
  resolution: readonly [number, number],
  pretrained: Preprocessing | null,
): FixedPreprocessing {
  const uniform = (dataset.val ?? dataset.train).uniformSize;
  const fits = uniform?.[0] === resolution[0] && uniform[1] === resolution[1];
  return {
    channels: dataset.channels,
    pack_size: dataset.pack.shorterSide,
    resize: fits ? Math.min(...resolution) : evaluationResize(resolution),
    size: [resolution[0], resolution[1]],
    normalize: resolveNormalize(data.normalize, dataset.channels, pretrained?.normalize),
  };
}

function reportProblems(dataset: Dataset, report: Report | undefined): void {
  for (const message of dataset.warnings) report?.({ type: 'warning', message });
  const { broken } = dataset;
  if (broken.length === 0) return;
  const shown = broken.slice(0, 5).map(({ path, reason }) => `\n  - ${path}: ${reason}`);
  const more = broken.length > 5 ? `\n  - and ${broken.length - 5} more` : '';
  report?.({
    type: 'warning',
    message: `${broken.length} image${broken.length === 1 ? '' : 's'} could not be read and ${broken.length === 1 ? 'is' : 'are'} left out:${shown.join('')}${more}`,
  });
}
