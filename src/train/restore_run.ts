/** Puts a run where a checkpoint was written. */
import path from 'node:path';

import { ownSnapshot } from '../dist/generators.js';
import { MODEL_FILE, type Checkpoint } from './checkpoint.js';
import type { OpenRun } from './open_run.js';

/** Weights, optimizer, generators and books. The parts of `RunState` are restored as they register. */
export async function restoreRun(run: OpenRun, checkpoint: Checkpoint): Promise<void> {
  const { session, progress, processes } = run;
  const { model, store, report } = run.options;
  const { state } = checkpoint;
  await model.loadWeights(path.join(checkpoint.path, MODEL_FILE));
  const optimizer = ownSnapshot(processes, await store!.optimizer(checkpoint));
  try {
    session.restore(optimizer, state.step);
  } finally {
    for (const tensor of Object.values(optimizer)) tensor.dispose();
  }
  const present = await processes.lead(async () => (await store!.list()).map(({ step }) => step));
  progress.restore(state, new Set(present));
  report({
    type: 'resumed',
    path: checkpoint.path,
    step: state.step,
    epoch: state.epoch,
    message: `Resumed at epoch ${state.epoch + 1}, step ${state.step}, from ${checkpoint.path}`,
  });
}
