/** Whether the same run gives the same bits again: keys of the section `train`. */
import { z } from 'zod';
import { auto } from './schema_values.js';

export const deterministicKeys = {
  deterministic: z
    .boolean()
    .default(false)
    .describe(
      'Only algorithms that give the same bits every time; an operator without one ends the run with an error that names it. Slower on a GPU. On a CPU runs of the same seed and number of threads are equal anyway.',
    ),
  cudnn_benchmark: z
    .union([auto, z.boolean()])
    .default('auto')
    .describe('Let cuDNN measure its algorithms (CUDA only). `auto`: on, unless `deterministic`.'),
};
