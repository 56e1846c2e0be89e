/** `train.nan_watch`: what happens when numbers are no longer finite. */
import { z } from 'zod';

const watch = z.strictObject({
  policy: z
    .enum(['stop', 'rollback', 'off'])
    .default('stop')
    .describe(
      'At a step whose loss or gradients are not finite: `stop` ends the run with an error that names the first bad node; `rollback` goes back to the weights of the last regular checkpoint and on behind the bad batch; `off`: nobody looks.',
    ),
  rollbacks: z.int().min(1).default(3).describe('The most rollbacks of a run; then it stops.'),
  gradients_every: z
    .int()
    .min(1)
    .default(1)
    .describe(
      'On a CPU, steps from one look at the gradients to the next; with `clip_norm`, and on a GPU, every step is looked at.',
    ),
  anomaly: z
    .boolean()
    .default(false)
    .describe('Look at every node of every step, forward and backward, for NaN. Slow: to find a fault.'),
});

export const nanWatchKeys = {
  nan_watch: watch.prefault({}).describe('Watch for NaN and infinity.'),
};
