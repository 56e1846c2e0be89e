/**
 * The features that plug into a run, each in a file of its own. One looks at the configuration, and if it is asked
 * for changes the session's options, registers what the run must remember (`RunState`) and where it is to be called
 * (`RunHooks`).
 */
import type { FixedTrain } from '../config/schema.js';
import type { Processes } from '../dist/processes.js';
import type { NativeLoader, TrainOptions } from '../native/contract.js';
import { labelsFeature } from './check_labels.js';
import { mixingFeature } from './mixing.js';
import { nanWatchFeature } from './nan_watch.js';
import type { OpenRun } from './open_run.js';
import { callbackFeature } from './callback_feature.js';
import { cudaGraphsFeature } from './cuda_graphs.js';
import { groupsFeature } from './parameter_groups.js';
import { precisionFeature } from './precision.js';
import type { RunDevices } from './run_devices.js';
import type { RunHooks } from './run_hooks.js';
import type { RunState } from './run_state.js';
import { memoryFeature } from './memory.js';
import { stepSizeFeature } from './step_size.js';
import { swaFeature } from './swa.js';
import { metricsFeature } from './script_metrics.js';
import type { TrainingRunOptions } from './training_run_types.js';
import { validationFeature } from './validation_settings.js';

/** A run whose loader is open and whose session is not. */
export interface Opening {
  readonly options: TrainingRunOptions;
  readonly train: FixedTrain;
  readonly devices: RunDevices;
  readonly processes: Processes;
  readonly loader: NativeLoader;
  /** Optimizer steps of an epoch. */
  readonly stepsPerEpoch: number;
  readonly state: RunState;
  readonly hooks: RunHooks;
  /** It goes on from a checkpoint. */
  readonly resumed: boolean;
  /** It does so for more epochs than the run had when that was written. */
  readonly extended: boolean;
  /** Of the session that will be opened; to be changed in place. */
  readonly session: TrainOptions;
}

export interface RunFeature {
  /** Before the session opens. What is measured here registers a part with `decided: true`. */
  prepare?(opening: Opening): void | Promise<void>;
  /** The session is open; a resumed run has its weights, optimizer and step. */
  attach?(run: OpenRun): void | Promise<void>;
}

/** In the order in which they are called. */
export const RUN_FEATURES: readonly RunFeature[] = [
  validationFeature,
  labelsFeature,
  stepSizeFeature,
  groupsFeature,
  mixingFeature,
  nanWatchFeature,
  swaFeature,
  metricsFeature,
  callbackFeature,
  precisionFeature,
  memoryFeature,
  cudaGraphsFeature,
];
