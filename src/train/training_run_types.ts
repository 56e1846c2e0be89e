/** What a training run is given, and what comes of it. */
import type { Config } from '../config/schema.js';
import type { Processes } from '../dist/processes.js';
import type { Graph } from '../graph/format.js';
import type { Model } from '../model.js';
import type { Callbacks } from './callbacks.js';
import type { BestRecord, CheckpointStore, EpochRecord } from './checkpoint.js';
import type { TrainData } from './data.js';
import type { CheckpointEvent, Report } from './events.js';
import type { StopReason } from './stopping.js';

/** The sections that every training has; those of jobs besides. */
export type RunConfig = Pick<Config, 'train' | 'device' | 'memory' | 'eval' | 'checkpoint'> & Partial<Config>;

export interface TrainingRunOptions {
  model: Model;
  data: TrainData;
  config: RunConfig;
  /** Graph over the model's outputs and the batch's fields with a scalar output `loss`. */
  loss: Graph;
  /** Its outputs are inputs of the loss. */
  teacher?: Model | null | undefined;
  /** Figures of the evaluation besides loss and accuracy, by their names. */
  metrics?: Readonly<Record<string, Graph>> | undefined;
  /** Functions of a script that are called between steps. */
  callbacks?: readonly Callbacks[] | undefined;
  /** Null: no checkpoints. */
  store: CheckpointStore | null;
  report: Report;
  signal?: AbortSignal | undefined;
  /** What the log has by now; stored in checkpoints. Called right before one is written. */
  logPosition?: (event: CheckpointEvent) => { bytes: number; state: unknown };
  /**
   * Called when nothing stands in the way any more, right before the start event.
   *
   * @param decided what was found out by timing and must stay as it is for the whole run (`RunState`).
   */
  onReady?: (decided: Record<string, unknown>) => Promise<void>;
  /** What was `decided` when this run began before, and left no checkpoint to go on from. */
  decisions?: Readonly<Record<string, unknown>> | undefined;
  /** Ends as if the config had so many epochs; the schedule is that of the config. */
  epochLimit?: number | undefined;
  /** Those that train this model together; default: this one alone. Only rank 0 writes. */
  processes?: Processes | undefined;
  /** For the start event. */
  run?: { name: string; folder: string } | undefined;
}

export interface TrainingResult {
  interrupted: boolean;
  /** Why it ended before its last epoch, in good order. */
  stopped: StopReason | null;
  /** The weights are those of the end of an epoch, not of the middle of one. */
  epochEnd: boolean;
  /** Written because of the interruption; null without a store. */
  checkpoint: string | null;
  history: EpochRecord[];
  best: BestRecord | null;
  /** `train.swa` has averaged weights: they are the model, however single epochs scored. */
  swaBegun: boolean;
  /** By the gradient scaler of fp16; left out without one. */
  skippedSteps?: number;
  step: number;
  epochs: number;
}
