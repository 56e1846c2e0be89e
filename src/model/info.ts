/** What a model knows about itself beside its graph and weights; travels in the model file. */
import { z } from 'zod';

import { dtypes } from '../graph/dtypes.js';
import { hasControlCharacters } from '../io/control_characters.js';
import type { Normalize } from '../native/contract.js';

/** Text that commands print. */
function text(limit: number): z.ZodString {
  return z
    .string()
    .max(limit)
    .refine((value) => !hasControlCharacters(value), 'control characters in a name');
}

const side = z.int().min(1).max(32_768);

/**
 * From a decoded image to the model's input. Evaluation during training, `fornax eval` and `fornax predict` all
 * follow it, so that a model sees in use what it was measured on.
 */
const preprocessingSchema = z
  .strictObject({
    /** 1: grayscale, 3: colour. */
    channels: z.union([z.literal(1), z.literal(3)]),
    /** The order of the model's colour channels, and of `normalize`. Absent, as in older files: 'rgb'. */
    channel_order: z.enum(['rgb', 'bgr']).optional(),
    /** Shorter side, pixels, to which larger images are reduced when they are decoded; null: not at all. */
    pack_size: side.nullable(),
    /** Then the shorter side is scaled to this many pixels (bilinear, antialiased) … */
    resize: side.nullable(),
    /** … and a window of this height and width is taken from the centre. Both null: images keep their size. */
    size: z.tuple([side, side]).nullable(),
    /** Per channel, for pixels scaled to 0…1: (x / 255 − mean) / std. */
    normalize: z
      .strictObject({ mean: z.array(z.number()).min(1).max(3), std: z.array(z.number().gt(0)).min(1).max(3) })
      .nullable(),
  })
  .refine(({ resize, size }) => (resize === null) === (size === null), 'resize and size belong together');

/** How a detector's outputs become boxes: its anchors ("priors") and how offsets from them are scaled. */
const detectionSchema = z
  .strictObject({
    /** Sides of the square anchors of each level, in pixels; as many at each level. */
    min_sizes: z
      .array(z.array(z.number().gt(0)).min(1).max(16))
      .min(1)
      .max(16),
    /** Distance of the places of each level, in pixels. */
    steps: z.array(z.int().min(1).max(4096)).min(1).max(16),
    /** Units of the offsets of centres and landmarks, and of the logarithms of sizes. */
    variances: z.tuple([z.number().gt(0), z.number().gt(0)]),
  })
  .refine(
    ({ min_sizes, steps }) =>
      min_sizes.length === steps.length && min_sizes.every((sizes) => sizes.length === min_sizes[0]!.length),
    'every level needs a step and the same number of min_sizes',
  );

const metricsSchema = z.record(text(200), z.number().nullable());

/** As it stands in the file's metadata, key by key (snake_case). */
export const infoSchema = z.strictObject({
  /** Architecture or class name: `resnet18`. */
  name: text(1000),
  /** `classification`, or `custom` for a model of the user's own. */
  task: text(200),
  /** Class names by index; empty for a model without classes. */
  labels: z.array(text(10_000)).max(1_000_000),
  /** Example inputs the graph was traced with. */
  inputs: z
    .array(
      z.strictObject({
        name: text(1000),
        shape: z.array(z.int().min(0)).max(16),
        dtype: z.enum(dtypes),
      }),
    )
    .max(1000),
  preprocessing: preprocessingSchema.nullable(),
  /** Of detectors alone. */
  detection: detectionSchema.optional(),
  /** Where the weights come from: run, data, settings, versions, time. */
  provenance: z.record(text(200), z.unknown()),
  /** Figures of the weights, by name: `top1`, `loss`. */
  metrics: metricsSchema,
});

export type ModelInfo = z.infer<typeof infoSchema>;
export type Preprocessing = z.infer<typeof preprocessingSchema>;
/** Of a model whose images are all brought to one size. */
export type FixedPreprocessing = Preprocessing & { resize: number; size: [number, number] };
/** What a session needs to know of it; null: pixels are not normalised. */
export function normalizeOf(preprocessing: Preprocessing | null): Normalize | null {
  const { normalize = null, channel_order: order } = preprocessing ?? {};
  return normalize && order ? { ...normalize, channel_order: order } : normalize;
}

export type DetectionInfo = z.infer<typeof detectionSchema>;
export type InputSpec = ModelInfo['inputs'][number];
