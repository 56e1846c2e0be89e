/** Modes of a run: dropout, batch norm and stochastic depth. */
import type { Mode } from '../graph/format.js';
import type { Modes } from '../native/contract.js';

export function modesOf(mode: Mode, modes: Modes = {}): Modes {
  return { dropout: mode, batch_norm: mode, stochastic_depth: mode, ...modes };
}

/** Whether a run with these modes may change buffers (the statistics of batch norm). */
export function mayUpdate({ overrides = [], ...kinds }: Modes): boolean {
  return [...Object.values(kinds), ...overrides.map(({ mode }) => mode)].some((mode) => mode !== 'eval');
}
