/**
 * What a job (training, evaluation, prediction, data preparation) tells whoever started it. The command line
 * prints these, `events.jsonl` records them (`eventRecord`), and `trainer.fit()` yields them.
 */
import { toSnake } from '../config/case.js';
import type { StopReason } from './stopping.js';

/** Figures of one evaluation. */
export interface EvaluationMetrics {
  /** Null where no loss was computed. */
  loss: number | null;
  /** Shares in 0…1; null where the data have no classes. */
  top1: number | null;
  top5: number | null;
  samples: number;
  /** Those of a script, by their names, as means over the samples; left out without such. */
  metrics?: Record<string, number | null>;
}

/** Where a phase runs and why. `message` is the whole line: `Training on cuda:0 (NVIDIA H200), mixed precision fp16`. */
export interface DeviceEvent {
  type: 'device';
  phase: 'train' | 'eval' | 'export' | 'predict';
  device: string;
  /** The device's name: `NVIDIA H200`, or the CPU's capability (`AVX512, 8 threads`). */
  deviceName: string;
  amp: 'off' | 'bf16' | 'fp16';
  message: string;
}

/** Which convolutions and matrix products are computed in bf16, where not all are in one precision. */
export interface PrecisionEvent {
  type: 'precision';
  /** Names of those in bf16: paths of their modules, with `#1`, `#2`… for further ones of the same module. */
  bf16: string[];
  /** How many there are in all. */
  nodes: number;
  /** `kept`: measured when the run began. */
  source: 'configured' | 'measured' | 'kept';
  message: string;
}

/** What `train.batch_size: auto` came to. */
export interface BatchSizeEvent {
  type: 'batch_size';
  batchSize: number;
  /** Bytes that a step takes, and that it may take. */
  peak: number;
  limit: number;
  message: string;
}

/** Bytes that a step takes on the device, by parts; measured before the first one. */
export interface MemoryEvent {
  type: 'memory';
  /** Of the micro-batch. */
  rows: number;
  budget: number | null;
  /** False: such a step ran out of memory; activations and workspace are not known then. */
  fits: boolean;
  weights: number;
  gradients: number;
  optimizer: number;
  /** Of the weights (`train.ema`, `train.swa`). */
  average: number;
  activations: number;
  workspace: number;
  /** Of what a checkpoint holds, until it is written; 0 without a folder, and where the copy lies elsewhere. */
  checkpointCopy: number;
  message: string;
}

/** A step whose loss, gradients or nodes are not finite; the weights do not have it. */
export interface NotFiniteEvent {
  type: 'not_finite';
  /** The bad step, from 1, and the epoch it is in. */
  step: number;
  epoch: number;
  what: 'loss' | 'gradient' | 'node' | 'scale';
  /** The first bad node, parameter or input; null where none was found. */
  node: string | null;
  action: 'stop' | 'rollback';
  /** Rollback: the step whose weights it goes on from; null: the weights before the bad step. */
  to: number | null;
  message: string;
}

/** A step ran out of memory and was computed again with smaller micro-batches, which stay. */
export interface OutOfMemoryEvent {
  type: 'out_of_memory';
  /** 1-based. */
  step: number;
  /** A node, or a phase such as `backward`; the module that was running. */
  where: string;
  module: string | null;
  /** Images of a micro-batch before and after; micro-batches of a step from now on. */
  from: number;
  to: number;
  parts: number;
  /** Batch norms whose statistics are those of smaller batches from now on. */
  batchNorms: number;
  message: string;
}

/** Once, before the first step. */
export interface StartEvent {
  type: 'start';
  run: string | null;
  folder: string | null;
  model: string;
  parameters: number;
  classes: number;
  trainSamples: number;
  evalSamples: number | null;
  epochs: number;
  stepsPerEpoch: number;
  totalSteps: number;
  /** Step from which a resumed run goes on, 0 for a fresh one. */
  firstStep: number;
}

/** A few times a second at most. */
export interface StepsEvent {
  type: 'steps';
  /** 1-based. */
  epoch: number;
  epochs: number;
  /** Optimizer steps done in the run and in this epoch. */
  step: number;
  totalSteps: number;
  epochStep: number;
  stepsPerEpoch: number;
  /** Mean of the finite losses since the last event (NaN: there is none); `losses` are the single ones. */
  loss: number;
  losses: number[];
  /** Mean loss of the epoch so far. */
  epochLoss: number;
  lr: number;
  samples: number;
  samplesPerSecond: number;
  /** Share of the time spent waiting for data, 0…1. */
  waitShare: number;
  /** Bytes: peak allocated on CUDA, resident set on CPU. */
  memory: number;
  /** Bytes: the most that tensors took on the device so far; what is in use or kept for reuse. */
  memoryPeak: number;
  memoryReserved: number;
  /** Seconds until the last epoch's end, at the present speed. */
  etaSeconds: number;
  /** Of the steps, those repeated from a CUDA graph; absent: none. */
  repeated?: number;
  /** Loss scale and skipped steps (fp16 only). */
  scale?: number;
  skipped?: number;
}

export interface EpochEvent {
  type: 'epoch';
  epoch: number;
  epochs: number;
  step: number;
  /** Mean of the epoch's finite losses; NaN where there is none. */
  loss: number;
  lr: number;
  samples: number;
  seconds: number;
  samplesPerSecond: number;
  /** Steps of the run so far that the gradient scaler has skipped (fp16 only). */
  skippedSteps?: number;
}

export interface EvaluationEvent extends EvaluationMetrics {
  type: 'evaluation';
  /** Epoch after which it was done, 1-based; null outside training. */
  epoch: number | null;
  step: number | null;
  /** Best of the run so far, by the run's metric. */
  best: boolean;
  seconds: number;
  /** `best`, `average` (of SWA): the final evaluation of the weights that are written to the model file. */
  weights: 'last' | 'best' | 'average' | 'file';
}

export interface CheckpointEvent {
  type: 'checkpoint';
  step: number;
  /** Completed epochs. */
  epoch: number;
  path: string;
  reason: 'epoch' | 'interval' | 'interrupted' | 'final' | 'stopped' | 'failed';
  /** Until it was on the disk. */
  seconds: number;
  /** Of these, how long training stood still. */
  pauseSeconds: number;
}

/** The run ends before its last epoch, in good order. */
export interface StoppedEvent {
  type: 'stopped';
  reason: StopReason;
  step: number;
  /** Completed epochs. */
  epoch: number;
  message: string;
}

/** What a callback has logged. */
export interface ScalarsEvent {
  type: 'scalars';
  step: number;
  /** The running epoch, 1-based. */
  epoch: number;
  values: Record<string, number>;
}

export interface DataProgressEvent {
  type: 'data_progress';
  split: string;
  done: number;
  total: number;
  /** What is being done: `Decoding images`. */
  stage: string;
}

/** Of a search for a learning rate: steps, and the rate and the loss of the last one. */
export interface LearningRateProgressEvent {
  type: 'lr_find_progress';
  done: number;
  total: number;
  lr: number;
  loss: number;
}

/** The run's model exists already and the configuration says to skip. */
export interface SkippedEvent {
  type: 'skipped';
  message: string;
  modelPath: string;
}

export interface ResumedEvent {
  type: 'resumed';
  path: string;
  step: number;
  epoch: number;
  message: string;
}

export interface DoneEvent {
  type: 'done';
  modelPath: string | null;
  folder: string | null;
  epochs: number;
  steps: number;
  seconds: number;
  metrics: EvaluationMetrics | null;
  /** Steps that the gradient scaler has skipped (fp16 only). */
  skippedSteps?: number;
  /** Bytes: the most that tensors took on the device of training. Null where that is not counted. */
  peakMemory: number | null;
}

export type JobEvent =
  | { type: 'info'; message: string; /** It begins a part of the job. */ heading?: true }
  | { type: 'warning'; message: string }
  | DeviceEvent
  | DataProgressEvent
  | PrecisionEvent
  | BatchSizeEvent
  | MemoryEvent
  | OutOfMemoryEvent
  | NotFiniteEvent
  | StartEvent
  | ResumedEvent
  | StepsEvent
  | EpochEvent
  | LearningRateProgressEvent
  | { type: 'evaluation_progress'; epoch: number | null; done: number; total: number }
  | EvaluationEvent
  | CheckpointEvent
  | ScalarsEvent
  | SkippedEvent
  | StoppedEvent
  | { type: 'interrupted'; step: number; checkpoint: string | null; signal: string | null }
  | DoneEvent;

/** Receives events; called synchronously, must not throw. */
export type Report = (event: JobEvent) => void;

/**
 * An event as it stands in `events.jsonl` and in `--json` output: snake_case keys and a time stamp.
 */
export function eventRecord(event: JobEvent, now: Date = new Date()): Record<string, unknown> {
  const { type, ...fields } = event;
  const record: Record<string, unknown> = {
    type,
    time: now.toISOString(),
    ...(toSnake(fields) as Record<string, unknown>),
  };
  // Names that a script has given stay as they are.
  if (event.type === 'scalars') record.values = event.values;
  if (event.type === 'evaluation' && event.metrics) record.metrics = event.metrics;
  if (event.type === 'done' && event.metrics?.metrics) {
    record.metrics = { ...(record.metrics as object), metrics: event.metrics.metrics };
  }
  return record;
}
