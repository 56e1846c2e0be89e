/** Rates and decay by parameter: keys of the section `train`. */
import { z } from 'zod';

/** A factor on the rate as text, above 0: `10x`, `0.5x`. */
export const FACTOR_PATTERN = /^(?=[\d.]*[1-9])\d+(\.\d+)?(e-?\d+)?x$/;

const group = z.strictObject({
  match: z
    .union([
      z
        .string()
        .min(1)
        .transform((one) => [one]),
      z.array(z.string().min(1)).min(1),
    ])
    .describe(
      'Module paths or names of parameters (`layer4`, `fc.bias`), or patterns in which `*` stands for any text (`*.bias`); one or a list. Each must match something.',
    ),
  lr_scale: z
    .number()
    .min(0)
    .nullable()
    .default(null)
    .describe('Factor on the rate, in place of that of `layer_decay` and `head_lr`. `null`: as it is.'),
  weight_decay: z.number().min(0).nullable().default(null).describe('Weight decay. `null`: as it is.'),
  frozen: z
    .boolean()
    .nullable()
    .default(null)
    .describe(
      '`true`: not trained, and batch norm uses its running statistics; `false`: trained although `train.frozen` names it. `null`: as it is.',
    ),
});

export const groupKeys = {
  layer_decay: z
    .number()
    .gt(0)
    .max(1)
    .nullable()
    .default(null)
    .describe(
      'Layer-wise decay of the rate: each layer below the head learns at this factor of the one above it (0.65 to 0.9 when fine-tuning). `null`: all alike.',
    ),
  head_lr: z
    .union([
      z.number().gt(0),
      z.string().regex(FACTOR_PATTERN, { error: 'expected a rate or a factor such as 10x' }),
    ])
    .nullable()
    .default(null)
    .describe(
      'Peak learning rate of the head (the last operator with weights before each output), or a factor on `lr` (`10x`). `null`: `lr`.',
    ),
  groups: z
    .array(group)
    .default([])
    .describe(
      'Settings for some of the parameters. Of several that match, the last one that names a setting decides.',
    ),
};
