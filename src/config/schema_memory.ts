/** The section `memory` of a config, and the size of a batch, which may be left to it. */
import { z } from 'zod';
import { parseSize, SIZE_PATTERN } from './size.js';
import { auto } from './schema_values.js';

const EXPECTED = 'expected an amount of memory such as 512MiB, 4GiB or 1.5GB';
const size = z.union([
  z.int().min(1),
  z
    .string()
    .regex(SIZE_PATTERN, { error: EXPECTED })
    // Not less than a byte, nor more than can be counted.
    .refine((text) => !SIZE_PATTERN.test(text) || parseSize(text) !== null, { error: EXPECTED }),
]);

export const memorySchema = z
  .strictObject({
    budget: size
      .nullable()
      .default(null)
      .describe(
        'The most that training may take on its device, as `4GiB`, `512MiB` or bytes; what does not fit is treated as if memory had run out. On a CPU: tensors, and what is kept for their reuse; of several processes, each. `null`: what there is.',
      ),
    on_oom: z
      .enum(['halve', 'stop'])
      .default('halve')
      .describe(
        'When a step runs out of memory: `halve` puts it back to where it began, halves the micro-batch and computes the same batch in parts, for good; `stop` ends the run. Several processes always stop.',
      ),
  })
  .describe('Memory of the training.');

/** Keys of the section `train`. */
export const batchKeys = {
  batch_size: z
    .union([auto, z.int().min(1).max(65_536)])
    .default(64)
    .describe(
      'Images in a batch; of several processes, in the batch of each. `auto`: as many as fit into `memory.budget`, or into the memory that is free, found by trial steps before the run begins: a power of two up to 64, then a multiple of 8; at most 256 on a CPU, 1024 on a GPU, and so many that an epoch has 8 steps. It is kept when the run is resumed. Of one process only.',
    ),
};
