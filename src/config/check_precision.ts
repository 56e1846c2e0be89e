/** Rules of `train.precision`. */
import type { z } from 'zod';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

export function checkPrecision({ train, device }: z.output<typeof configSchema>, refuse: Refuse): void {
  const { precision, amp } = train;
  if (precision === null) return;
  if (amp !== 'auto') {
    refuse(
      ['train', 'precision'],
      `amp: ${amp} decides for all modules already`,
      'set train.amp to auto, or leave precision out',
    );
  }
  if (device.train.startsWith('cuda')) {
    refuse(['train', 'precision'], 'for training on a CPU only', 'use train.amp on a GPU');
  }
  const both = precision.fp32.find((path) => precision.bf16.includes(path));
  if (both !== undefined) {
    refuse(['train', 'precision'], `'${both}' is named under fp32 and under bf16`, 'name it once');
  }
}
