/** Settings that name a figure of the evaluation. */
import type { z } from 'zod';
import { nearest } from '../nearest.js';
import type { Refuse } from './check.js';
import type { configSchema } from './schema.js';
import { BUILT_IN_METRICS } from './schema_values.js';

/** @param metrics those of a script. */
export function checkMetrics(
  { train, checkpoint }: Pick<z.output<typeof configSchema>, 'train' | 'checkpoint'>,
  metrics: readonly string[],
  refuse: Refuse,
): void {
  const known = [...BUILT_IN_METRICS, ...metrics];
  const check = (path: string[], name: string, also: string[] = []): void => {
    if ([...known, ...also].includes(name)) return;
    const near = nearest(name, known);
    refuse(
      path,
      `expected ${[...also, ...known].join(', ')}, got "${name}"`,
      near ? `did you mean "${near}"?` : 'metrics of your own are given to the Trainer of a script',
    );
  };
  check(['checkpoint', 'monitor'], checkpoint.monitor, ['auto']);
  if (train.early_stopping) {
    check(['train', 'early_stopping', 'monitor'], train.early_stopping.monitor, ['auto']);
  }
}
