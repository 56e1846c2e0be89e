/** What the native loader is told for a split: the shards, and the geometry of training or evaluation. */
import type { AugmentOptions, LoaderOptions, Normalize } from '../native/contract.js';
import type { Split } from './split.js';

/** Geometry of training; the keys of `data.augment` in a config. */
export interface AugmentConfig {
  /**
   * `auto` (default): `random_crop` for images of up to 64 pixels that have the network's size, otherwise
   * `random_resized_crop` (up to 64 pixels of at least half of the area).
   */
  crop?: 'auto' | 'random_resized_crop' | 'random_crop' | 'resize_crop' | 'none';
  /** `random_resized_crop`: smallest and largest share of the area. Default [0.08, 1]. */
  scale?: [number, number];
  /** `random_resized_crop`: smallest and largest width / height. Default [3/4, 4/3]. */
  ratio?: [number, number];
  /** `random_crop`: pixels of zeros on every side. Default 4. */
  padding?: number;
  /** Probability of a horizontal flip. Default 0.5. */
  hflip?: number;
}

export interface SplitLoaderOptions {
  channels: 1 | 3;
  resolution: readonly [number, number];
  batchSize: number;
  seed: number;
  /** Shuffled and augmented, or in order with the geometry of evaluation. */
  train: boolean;
  augment?: AugmentConfig;
  /** Default: false. */
  dropLast?: boolean;
  threads?: number;
  prefetch?: number;
  normalize?: Normalize;
}

/**
 * Length of the shorter side before the centre crop of evaluation: the resolution / 0.875 (256 for 224), as
 * published models are evaluated; small images (up to 64) are used whole.
 */
export function evaluationResize(resolution: readonly [number, number]): number {
  const side = Math.max(...resolution);
  return isSmall(resolution) ? side : Math.round(side / 0.875);
}

/** Geometry of evaluation. Images that have the size already are taken as they are. */
export function evaluationGeometry(
  resolution: readonly [number, number],
  uniformSize: readonly [number, number] | null = null,
): AugmentOptions {
  const size: [number, number] = [resolution[0], resolution[1]];
  if (uniformSize?.[0] === size[0] && uniformSize[1] === size[1]) return { size, crop: { kind: 'none' } };
  return { size, crop: { kind: 'resize_crop', resize: evaluationResize(resolution) } };
}

/** Geometry of training. */
export function trainingGeometry(
  resolution: readonly [number, number],
  augment: AugmentConfig = {},
  uniformSize: readonly [number, number] | null = null,
): AugmentOptions {
  const size: [number, number] = [resolution[0], resolution[1]];
  const hflip = augment.hflip ?? 0.5;
  const crop = augment.crop ?? 'auto';
  switch (crop === 'auto' ? automaticCrop(size, uniformSize) : crop) {
    case 'none':
      return { size, crop: { kind: 'none' }, hflip };
    case 'resize_crop':
      return { ...evaluationGeometry(resolution, uniformSize), hflip };
    case 'random_crop':
      return { size, crop: { kind: 'random_crop', padding: augment.padding ?? 4 }, hflip };
    case 'random_resized_crop': {
      const { scale = [0.08, 1], ratio = [3 / 4, 4 / 3] } = augment;
      const gentle = crop === 'auto' && isSmall(size) && scale[1] >= SMALL_SHARE;
      const least = gentle ? Math.max(scale[0], SMALL_SHARE) : scale[0];
      return { size, crop: { kind: 'random_resized_crop', scale: [least, scale[1]], ratio }, hflip };
    }
  }
}

/** A twelfth of the area of a thumbnail shows nothing: `auto` takes at least half. */
const SMALL_SHARE = 0.5;

function isSmall(size: readonly [number, number]): boolean {
  return Math.max(...size) <= 64;
}

/** A window of a larger photo shows a corner of it, so images are only shifted if all have the network's size. */
function automaticCrop(
  size: [number, number],
  uniform: readonly [number, number] | null,
): 'random_crop' | 'random_resized_crop' {
  const same = uniform?.[0] === size[0] && uniform[1] === size[1];
  return same && isSmall(size) ? 'random_crop' : 'random_resized_crop';
}

/** Options of a native Loader over a split. */
export function loaderOptions(split: Split, options: SplitLoaderOptions): LoaderOptions {
  const { resolution, augment, threads, prefetch, normalize } = options;
  return {
    shards: split.shards,
    channels: options.channels,
    ...(split.indices && { indices: split.indices }),
    batch_size: options.batchSize,
    shuffle: options.train,
    drop_last: options.dropLast ?? false,
    seed: options.seed,
    augment: options.train
      ? trainingGeometry(resolution, augment, split.uniformSize)
      : evaluationGeometry(resolution, split.uniformSize),
    ...(threads !== undefined && { threads }),
    ...(prefetch !== undefined && { prefetch }),
    ...(normalize && { normalize }),
  };
}
