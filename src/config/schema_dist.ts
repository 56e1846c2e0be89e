/** The section `dist` of a config. */
import { z } from 'zod';
import { DURATION_PATTERN } from './duration.js';

export const distSchema = z
  .strictObject({
    timeout: z
      .string()
      .regex(DURATION_PATTERN, { error: 'expected a length of time such as 90s, 30m or 2h' })
      .default('30m')
      .describe(
        'How long a process waits for the others: to be reached when a run begins, and for their part of a sum. Then the run ends with an error, and `--resume` goes on.',
      ),
  })
  .describe('Several processes that train together (`--nproc`, torchrun).');
