/** Rules of `train.ema` and `train.swa`. */
import type { z } from 'zod';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';

export function checkAverages({ train }: z.output<typeof configSchema>, refuse: Refuse): void {
  const { swa, ema, schedule, epochs } = train;
  if (swa === null) return;
  if (ema !== null) {
    refuse(
      ['train', 'swa'],
      'there is train.ema already, and only one average can become the model',
      'leave one of them out (ema: null)',
      'key',
    );
  }
  if (swa.start >= epochs) {
    refuse(['train', 'swa', 'start'], `expected less than train.epochs (${epochs}), got ${swa.start}`);
  }
  if (swa.lr !== null && schedule.name === 'reduce_on_plateau') {
    refuse(
      ['train', 'swa', 'lr'],
      'a rate of its own cannot follow reduce_on_plateau, whose rate nobody knows before',
      'leave swa.lr out, or use another schedule',
    );
  }
}
