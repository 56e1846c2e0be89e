/** Training data that a script holds in memory: fields with one entry for each sample. */
import { createHash } from 'node:crypto';

import { resolveNormalize } from '../config/normalize.js';
import { generator, shuffle } from '../data/random.js';
import { stratifiedSplit } from '../data/stratified.js';
import { DataError } from '../errors.js';
import type { FixedPreprocessing } from '../model/info.js';
import type { Normalize, TensorLoaderOptions } from '../native/contract.js';
import type { Tensor } from '../tensor.js';
import type { TrainData } from './data.js';
import { checkOptions, requireOption } from './option_keys.js';
import { collectFields, type FieldValues, type Sample } from './memory_fields.js';

export type { FieldValues, FlatValues, Sample, SampleValue } from './memory_fields.js';

/** All samples of a split: by field, or one after another (arrays, generators, streams of rows of a database). */
export type MemorySplit = Readonly<Record<string, FieldValues>> | Iterable<Sample> | AsyncIterable<Sample>;

export interface MemoryDataOptions {
  train: MemorySplit;
  /** To evaluate on. Default: the share `valFraction` of `train`, or nothing. */
  val?: MemorySplit | null;
  /** Share of `train` that is held out where there is no `val`; of every class, if there are labels. Default 0. */
  valFraction?: number;
  /** Of the held-out share. Default 0. */
  seed?: number;
  /** Names by label. Default: the numbers of the field `label` (int64, 0, 1, …); none without such a field. */
  classes?: readonly string[];
  /**
   * Of images: fields uint8 `[N, H, W, C]`, brought to `[N, C, H, W]` as (x / 255 − mean) / std. Default `auto`: the
   * statistics of ImageNet for colours, 0.5 for grayscale.
   */
  normalize?: 'auto' | 'imagenet' | 'cifar10' | 'fashion_mnist' | 'half' | 'none' | Normalize;
}

/** What `memoryData` makes: data for a Trainer that holds their tensors. */
export interface MemoryData extends TrainData {
  /** Frees the tensors. A trainer that is at work keeps its own references. */
  dispose(): void;
  [Symbol.dispose](): void;
}

interface Split {
  fields: Record<string, Tensor>;
  indices: Int32Array | null;
  samples: number;
}

/**
 * Takes everything into memory, once. Numbers become float32, but `label` and `mask` int64; typed arrays keep their
 * type. Training takes the samples in a new order in every epoch, without augmentation.
 *
 * @throws ConfigError for an option that there is not; DataError for fields that differ in length, samples that differ in shape, labels that are no class.
 */
export async function memoryData(options: MemoryDataOptions): Promise<MemoryData> {
  checkOptions(options, ['train', 'val', 'valFraction', 'seed', 'classes', 'normalize'], 'memoryData');
  const { valFraction = 0, seed = 0 } = options;
  const given: unknown = options.train;
  requireOption(
    typeof given === 'object' && given !== null,
    'train',
    'an object of fields, or samples in a row',
  );
  requireOption(typeof valFraction === 'number', 'valFraction', 'a number of at least 0 and below 1');
  requireOption(Number.isSafeInteger(seed), 'seed', 'a whole number');
  if (!(valFraction >= 0 && valFraction < 1)) {
    throw new DataError({ what: `valFraction must be at least 0 and below 1, not ${valFraction}` });
  }
  const train = await openSplit(options.train, 'train');
  let val = options.val ? await openSplit(options.val, 'val') : null;
  if (val) requireSameFields(train, val);
  else if (valFraction > 0) val = holdOut(train, valFraction, seed);
  const classes = options.classes ?? classesOf(train);
  for (const split of [train, val]) if (split && classes.length > 0) checkLabels(split, classes.length);
  const fingerprint = fingerprintOf(train, val);
  const tensors = new Set([...Object.values(train.fields), ...Object.values(val?.fields ?? {})]);
  const dispose = (): void => tensors.forEach((tensor) => tensor.dispose());
  return {
    classes,
    trainSamples: train.samples,
    evalSamples: val?.samples ?? null,
    fingerprint,
    fields: [...new Set([...Object.keys(train.fields), 'index'])],
    preprocessing: preprocessingOf(train, options.normalize ?? 'auto'),
    loaderOptions(phase, { batchSize, seed: order }): TensorLoaderOptions {
      const split = phase === 'train' ? train : val!;
      return {
        fields: Object.fromEntries(Object.entries(split.fields).map(([name, { native }]) => [name, native])),
        ...(split.indices && { indices: split.indices }),
        batch_size: batchSize,
        shuffle: phase === 'train',
        // Batch norm cannot train on a single sample, which the last batch of an epoch may be.
        drop_last: phase === 'train' && split.samples > batchSize && split.samples % batchSize === 1,
        seed: order,
      };
    },
    dispose,
    [Symbol.dispose]: dispose,
  };
}

async function openSplit(given: MemorySplit, name: string): Promise<Split> {
  const fields = await collectFields(given, name);
  const samples = Object.values(fields)[0]!.shape[0]!;
  return { fields, indices: null, samples };
}

function requireSameFields(train: Split, val: Split): void {
  const [a, b] = [train, val].map(({ fields }) =>
    Object.entries(fields)
      .map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape.slice(1).join(', ')}]`)
      .sort(),
  );
  const differing = a!.filter((text) => !b!.includes(text));
  if (differing.length === 0 && a!.length === b!.length) return;
  throw new DataError({
    what: `the fields of train and val differ: ${a!.join('; ')} and ${b!.join('; ')}`,
    where: 'val',
  });
}

function labelsOf({ fields, indices }: Split): Int32Array | null {
  const { label } = fields;
  if (!label || label.dtype !== 'int64' || label.shape.length !== 1) return null;
  const all = Int32Array.from(label.toTypedArray() as BigInt64Array, Number);
  return indices ? Int32Array.from(indices, (i) => all[i]!) : all;
}

function holdOut(train: Split, fraction: number, seed: number): Split {
  const labels = labelsOf(train) ?? new Int32Array(train.samples);
  const halves = stratifiedSplit(labels, fraction, seed);
  if (halves.held.length === 0) {
    // Too few samples of every class to hold one out of each: held out whatever their class.
    const order = shuffle(
      Int32Array.from({ length: train.samples }, (_, i) => i),
      generator(seed),
    );
    const count = Math.max(1, Math.round(train.samples * fraction));
    if (count >= train.samples) throw new DataError({ what: 'valFraction leaves no sample to train on' });
    halves.held = order.slice(0, count).sort();
    halves.train = order.slice(count).sort();
  }
  train.indices = halves.train;
  train.samples = halves.train.length;
  return { fields: train.fields, indices: halves.held, samples: halves.held.length };
}

function classesOf(train: Split): string[] {
  const labels = labelsOf(train);
  if (!labels) return [];
  const most = labels.reduce((max, label) => Math.max(max, label), -1);
  return Array.from({ length: most + 1 }, (_, i) => String(i));
}

function checkLabels(split: Split, classes: number): void {
  const labels = labelsOf(split);
  if (!labels) {
    throw new DataError({
      what: `there are ${classes} classes, but no field 'label' with one integer for each sample`,
      where: 'classes',
      fix: 'add the field, or leave classes out',
    });
  }
  const bad = labels.findIndex((label) => label < 0 || label >= classes);
  if (bad < 0) return;
  const sample = split.indices?.[bad] ?? bad;
  throw new DataError({
    what: `label ${labels[bad]} is outside 0…${classes - 1}`,
    where: `sample ${sample}`,
    fix: 'labels count from 0; name all classes with `classes`',
  });
}

/** The only field of images says how they become the model's input. */
function preprocessingOf(
  { fields }: Split,
  normalize: NonNullable<MemoryDataOptions['normalize']>,
): FixedPreprocessing | null {
  const images = Object.values(fields).filter(({ dtype, shape }) => dtype === 'uint8' && shape.length === 4);
  const [image] = images;
  if (!image) return null;
  const [, height, width, channels] = image.shape as [number, number, number, number];
  if (channels !== 1 && channels !== 3) return null;
  return {
    channels,
    pack_size: null,
    resize: Math.min(height, width),
    size: [height, width],
    normalize: resolveNormalize(normalize, channels),
  };
}

function fingerprintOf(...splits: (Split | null)[]): string {
  const hash = createHash('sha256');
  for (const split of splits) {
    const fields = Object.entries(split?.fields ?? {});
    // In whatever order they were given.
    for (const [name, tensor] of fields.sort(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(JSON.stringify([name, tensor.dtype, tensor.shape]));
      const values = tensor.toTypedArray();
      hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
    const indices = split?.indices;
    if (indices) hash.update(new Uint8Array(indices.buffer, indices.byteOffset, indices.byteLength));
    hash.update('|');
  }
  return hash.digest('hex');
}
