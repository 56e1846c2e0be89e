/** `train.swa`: averaging of weights over the end of a training. */
import { z } from 'zod';
import { positiveInt } from './schema_values.js';

const swa = z.strictObject({
  start: z
    .number()
    .min(0)
    .default(0.75)
    .describe('Epochs after which averaging begins; below 1, as a share of `epochs`.'),
  interval: positiveInt.default(1).describe('Epochs from one set of weights that is averaged to the next.'),
  interval_steps: positiveInt
    .nullable()
    .default(null)
    .describe('The same in optimizer steps. `null`: `interval`.'),
  lr: z
    .number()
    .gt(0)
    .nullable()
    .default(null)
    .describe('Constant learning rate while averaging. `null`: the schedule goes on.'),
  anneal_epochs: z
    .number()
    .min(0)
    .default(1)
    .describe('Epochs in which the rate goes from that of the schedule to `lr`.'),
  anneal: z.enum(['cos', 'linear']).default('cos').describe('Along a cosine, or a line.'),
});

export const swaKeys = {
  swa: swa
    .nullable()
    .default(null)
    .describe(
      'Stochastic weight averaging: the plain mean of the weights of the last epochs becomes the model, with batch-norm statistics recomputed for it (`bn_recompute`, 200 batches if that is `null`). `null`: none; `{}`: with the defaults. Not with `ema`.',
    ),
};
