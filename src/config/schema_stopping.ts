/** When a training ends before its last epoch: keys of the section `train`. */
import { z } from 'zod';
import { DURATION_PATTERN } from './duration.js';
import { metricName, positiveInt } from './schema_values.js';

const earlyStopping = z.strictObject({
  patience: positiveInt.describe('Evaluations in a row without an improvement after which training ends.'),
  min_delta: z
    .number()
    .min(0)
    .default(0)
    .describe('An improvement is a change for the better by more than this.'),
  monitor: metricName
    .default('auto')
    .describe('Validation metric to watch. `auto`: that of `checkpoint.monitor`.'),
  mode: z
    .enum(['auto', 'min', 'max'])
    .default('auto')
    .describe(
      'Whether less or more of it is better. `auto`: as for `checkpoint.monitor`; of another metric `min` for `loss`, else `max`.',
    ),
});

export const stoppingKeys = {
  early_stopping: earlyStopping
    .nullable()
    .default(null)
    .describe('End when the validation metric no longer improves; the best weights are kept. `null`: never.'),
  max_time: z
    .string()
    .regex(DURATION_PATTERN, { error: 'expected a length of time such as 90s, 45m, 1h30m or 2d' })
    .nullable()
    .default(null)
    .describe(
      'End after this much time, counted over all parts of a resumed run: the step is finished, a checkpoint and the model are written. `null`: no limit.',
    ),
};
