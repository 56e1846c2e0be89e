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
  const start = swa.start < 1 ? Math.floor(swa.start * epochs) : swa.start;
  if (swa.start < epochs && swa.interval_steps === null && start + swa.interval > epochs) {
    refuse(
      ['train', 'swa', 'interval'],
      `no weights would be averaged: the first ones are those after epoch ${start + swa.interval}, and train.epochs is ${epochs}`,
      'let swa.start be earlier, make the interval shorter, or train longer',
    );
  }
  if (swa.lr !== null && schedule.name === 'reduce_on_plateau') {
    refuse(
      ['train', 'swa', 'lr'],
      'a rate of its own cannot follow reduce_on_plateau, whose rate nobody knows before',
      'leave swa.lr out, or use another schedule',
    );
  }
}
