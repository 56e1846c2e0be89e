/** What the main job is asked, and what comes of it. */
import type { Place } from '../dist/place.js';
import type { ImageTrainData } from './data.js';
import type { EvaluationMetrics, Report } from './events.js';
import type { RunFolder } from './run_folder.js';

export interface TrainJobOptions {
  /** `true`: there must be a checkpoint to go on from; `auto`: starts fresh where there is none. Default false. */
  resume?: boolean | 'auto';
  /**
   * A checkpoint to go on from, instead of the newest one: an older one of this run (newer ones are set aside), or
   * one of another run, for a new run.
   */
  resumeFrom?: string | undefined;
  /** Train anew although the run has results. The old model is kept as model.previous.safetensors. */
  force?: boolean;
  /** Finishes the current step, writes a checkpoint and returns. */
  signal?: AbortSignal;
  report?: Report;
  /** Changes what the data delivers (trials). */
  data?: (data: ImageTrainData) => ImageTrainData;
  /** Where this process stands among those that train together (`findPlace`); default: it is alone. */
  place?: Place | null;
  /** Ends as if the config had so many epochs; the schedule is that of the config. */
  epochLimit?: number;
}

export interface TrainOutcome {
  status: 'done' | 'skipped' | 'interrupted';
  interrupted: boolean;
  skipped: boolean;
  /** The run's folder, absolute. */
  folder: string;
  /** Null if interrupted. */
  modelPath: string | null;
  /** From which an interrupted run can go on; null if it had not begun. */
  checkpoint: string | null;
  /** Of the weights in the model file; null without validation images. */
  metrics: EvaluationMetrics | null;
  epochs: number;
  steps: number;
}

export function outcome(
  status: TrainOutcome['status'],
  folder: Pick<RunFolder, 'folder' | 'paths'>,
  rest: Partial<TrainOutcome>,
): TrainOutcome {
  return {
    status,
    interrupted: status === 'interrupted',
    skipped: status === 'skipped',
    folder: folder.folder,
    modelPath: status === 'interrupted' ? null : folder.paths.model,
    checkpoint: null,
    metrics: null,
    epochs: 0,
    steps: 0,
    ...rest,
  };
}
