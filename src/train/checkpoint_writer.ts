/** Writes a run's checkpoints in the background: training stands still only while what they hold is copied. */
import { gatherGenerators } from '../dist/generators.js';
import type { Processes } from '../dist/processes.js';
import type { Model } from '../model.js';
import type { NativeTrain } from '../native/contract.js';
import type { CheckpointStore } from './checkpoint.js';
import type { CheckpointEvent } from './events.js';
import { copyModel } from './model_copy.js';
import type { ResumeIdentity } from './resume.js';
import type { RunProgress } from './run_progress.js';
import type { RunState } from './run_state.js';
import type { TrainingRunOptions } from './training_run_types.js';

export interface CheckpointWriterOptions extends Pick<
  TrainingRunOptions,
  'model' | 'report' | 'logPosition'
> {
  model: Model;
  store: CheckpointStore;
  progress: RunProgress;
  state: RunState;
  processes: Processes;
  /** Between steps: nobody computes. */
  session: NativeTrain;
  identity: () => ResumeIdentity;
  /** Told at once of a checkpoint that could not be written; `done()` throws it, too. */
  onFailure: (error: Error) => void;
}

export class CheckpointWriter {
  /** The one that is being written while training goes on. */
  private writing: Promise<void> = Promise.resolve();
  private last = performance.now();

  constructor(private readonly options: CheckpointWriterOptions) {}

  /** Since the last one was begun, or training itself. */
  get secondsSinceLast(): number {
    return (performance.now() - this.last) / 1000;
  }

  /** Waits until the last one is on the disk. Throws what prevented that. */
  async done(): Promise<void> {
    await this.writing;
  }

  /**
   * Copies what a resume needs and begins to write it. One at a time: where the one before is still being written,
   * this waits for it. Called by all processes of a training; rank 0 writes.
   */
  async write(reason: CheckpointEvent['reason']): Promise<void> {
    const { store, model, session, progress, processes, report } = this.options;
    if (!processes.leads) return this.contribute();
    const started = performance.now();
    this.last = started;
    const secondsSince = (): number => (performance.now() - started) / 1000;
    await this.writing;
    const event: CheckpointEvent = {
      type: 'checkpoint',
      step: session.stepCount,
      epoch: progress.epoch,
      path: '',
      reason,
      seconds: 0,
      pauseSeconds: 0,
    };
    const contents = { ...copyModel(model), optimizer: session.snapshot() };
    await gatherGenerators(processes, contents.optimizer);
    const log = this.options.logPosition?.(event) ?? { bytes: 0, state: null };
    const { config, computed, dataFingerprint, graphHash, stepsPerEpoch } = this.options.identity();
    // A copy: it is written while the next steps, and perhaps the end of an epoch, change the originals.
    const state = structuredClone({
      step: event.step,
      ...progress.state,
      steps_per_epoch: stepsPerEpoch,
      config,
      computed,
      data_fingerprint: dataFingerprint,
      graph_hash: graphHash,
      parts: this.options.state.save(),
      log_bytes: log.bytes,
      log_state: log.state,
    });
    const { keptSteps } = progress;
    event.pauseSeconds = secondsSince();
    const commit = async (): Promise<void> => {
      try {
        event.path = await store.save({ state, keptSteps, ...contents });
      } finally {
        contents.dispose();
        for (const tensor of Object.values(contents.optimizer)) tensor.dispose();
      }
      event.seconds = secondsSince();
      report(event);
    };
    this.writing = commit();
    // Thrown where it is awaited; steps in between need not be computed.
    this.writing.catch((error: unknown) => this.options.onFailure(error as Error));
  }

  /** What a checkpoint that rank 0 writes needs of this process. */
  private async contribute(): Promise<void> {
    const snapshot = this.options.session.snapshot();
    try {
      await gatherGenerators(this.options.processes, snapshot);
    } finally {
      for (const tensor of Object.values(snapshot)) tensor.dispose();
    }
  }
}
