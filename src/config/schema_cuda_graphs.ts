/** Keys of the section `train`. */
import { z } from 'zod';

export const cudaGraphsKeys = {
  cuda_graphs: z
    .enum(['auto', 'on', 'off'])
    .default('auto')
    .describe(
      'Record a whole step, from forward to the average of the weights, as a CUDA graph and repeat it instead of computing it operator by operator (CUDA only). `auto`: where that can be done, else the run says why not; `on`: an error where it cannot.',
    ),
};
