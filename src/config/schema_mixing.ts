/** Mixup and CutMix: keys of the section `train`. */
import { z } from 'zod';
import { positiveInt, share } from './schema_values.js';

export const mixingKeys = {
  mixup: z
    .number()
    .min(0)
    .default(0)
    .describe(
      'Mixup (Zhang et al. 2018): batches are mixed with themselves, shares drawn from Beta(α, α) with this α (0.2 is usual, 0.8 for transformers). 0: never.',
    ),
  cutmix: z
    .number()
    .min(0)
    .default(0)
    .describe(
      'CutMix (Yun et al. 2019): a box of each image is replaced by that of another one, its area drawn from Beta(α, α) with this α (1 is usual). 0: never.',
    ),
  mix_prob: share.default(1).describe('Probability that a batch is mixed.'),
  mix_switch_prob: share
    .default(0.5)
    .describe('Probability of CutMix instead of mixup, where both are above 0.'),
  mix_epochs: positiveInt
    .nullable()
    .default(null)
    .describe('Epochs after which nothing is mixed any more. `null`: mixed to the end.'),
};
