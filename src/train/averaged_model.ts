/** The average of a model's weights (moving, or SWA's) as a model: what is evaluated, and what becomes the run's model. */
import type { Model } from '../model.js';
import type { NativeGraph, NativeTensor, NativeTrain } from '../native/contract.js';
import { loadAddon } from '../native.js';

/** In TrainSession.snapshot(), before the name of each averaged entry of the state dict. */
const PREFIX = /^(ema|swa)\//;

/** The model's graph with weights of its own. */
export class AveragedModel {
  readonly native: NativeGraph;

  constructor(model: Model) {
    this.native = new (loadAddon().Graph)(model.graph, { trusted: true });
  }

  /** Takes the averages as they are now. Not while the session runs. */
  take(session: NativeTrain): void {
    loadInto(this.native, session.ema());
  }

  dispose(): void {
    this.native.dispose();
  }
}

/** Puts the session's averages into the model that it trains: nothing can be trained or resumed afterwards. */
export function adoptAverages(model: Model, session: NativeTrain): void {
  loadInto(model.native, session.ema());
  model.changed();
}

/** Puts the averages of a checkpoint (`CheckpointStore.optimizer`) into a model; the tensors stay the caller's. */
export function loadAverages(model: Model, snapshot: Record<string, NativeTensor>): void {
  const averages = Object.entries(snapshot)
    .filter(([name]) => PREFIX.test(name))
    .map(([name, tensor]) => [name.replace(PREFIX, ''), tensor] as const);
  model.native.loadState(Object.fromEntries(averages));
  model.changed();
}

function loadInto(native: NativeGraph, averages: Record<string, NativeTensor>): void {
  try {
    native.loadState(averages);
  } finally {
    for (const tensor of Object.values(averages)) tensor.dispose();
  }
}
