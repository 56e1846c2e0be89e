/** What a model knows about itself beside its graph and weights; travels in the model file. */
import { z } from 'zod';

import { dtypes } from '../graph/dtypes.js';
import { hasControlCharacters } from '../io/control_characters.js';

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
const preprocessingSchema = z.strictObject({
  /** 1: grayscale, 3: RGB. */
  channels: z.union([z.literal(1), z.literal(3)]),
  /** Shorter side, pixels, to which larger images are reduced when they are decoded; null: not at all. */
  pack_size: side.nullable(),
  /** Then the shorter side is scaled to this many pixels (bilinear, antialiased) … */
  resize: side,
  /** … and a window of this height and width is taken from the centre. */
  size: z.tuple([side, side]),
  /** Per channel, for pixels scaled to 0…1: (x / 255 − mean) / std. */
  normalize: z
    .strictObject({ mean: z.array(z.number()).min(1).max(3), std: z.array(z.number().gt(0)).min(1).max(3) })
    .nullable(),
});

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
  /** Where the weights come from: run, data, settings, versions, time. */
  provenance: z.record(text(200), z.unknown()),
  /** Figures of the weights, by name: `top1`, `loss`. */
  metrics: metricsSchema,
});

export type ModelInfo = z.infer<typeof infoSchema>;
export type Preprocessing = z.infer<typeof preprocessingSchema>;
export type InputSpec = ModelInfo['inputs'][number];
