/** What `train.deterministic` rules out: settings that are decided by timing, or by what else the machine does. */
import type { z } from 'zod';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

export function checkDeterministic(
  { train, memory }: Pick<z.output<typeof configSchema>, 'train' | 'memory'>,
  refuse: Refuse,
): void {
  if (!train.deterministic) return;
  if (train.cudnn_benchmark === true) {
    refuse(
      ['train', 'cudnn_benchmark'],
      'cuDNN chooses its algorithms by timing, which train.deterministic rules out',
      'leave it out: auto is off then',
    );
  }
  if (train.batch_size === 'auto' && memory.budget === null) {
    refuse(
      ['train', 'batch_size'],
      'auto goes by the memory that is free, which train.deterministic rules out',
      'give a number, or a memory.budget',
    );
  }
}
