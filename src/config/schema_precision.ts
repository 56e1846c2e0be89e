/** Precision of single modules: keys of the section `train`. */
import { z } from 'zod';

const paths = z.array(z.string().min(1)).default([]);

const precision = z.strictObject({
  default: z.enum(['fp32', 'bf16']).default('fp32').describe('Of everything that is not named.'),
  fp32: paths.describe('Module paths in float32.'),
  bf16: paths.describe('Module paths in bf16.'),
});

export const precisionKeys = {
  precision: precision
    .nullable()
    .default(null)
    .describe(
      'Precision of the convolutions and matrix products under module paths (`layer1`, `features.0`), on a CPU; of two paths that fit the longer counts. `null`: as `amp` says, which with `auto` measures them.',
    ),
};
