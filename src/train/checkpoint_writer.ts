/** Writes a run's checkpoints in the background: training stands still only while what they hold is copied. */
import { gatherGenerators } from '../dist/generators.js';
import { undisturbed } from '../dist/launched.js';
import type { Processes } from '../dist/processes.js';
import { DeviceError } from '../errors.js';
import type { Model } from '../model.js';
import type { NativeTensor, NativeTrain } from '../native/contract.js';
import type { CheckpointStore } from './checkpoint.js';
import type { CheckpointEvent } from './events.js';
import { copyModel, type ModelCopy } from './model_copy.js';
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
  /** Of the whole run. */
  epochs: number;
  /** Told at once of a checkpoint that could not be written; `done()` throws it, too. */
  onFailure: (error: Error) => void;
}

/** What is written: copies, or (`shared`) what the next step changes. */
type SharedContents = ModelCopy & { optimizer: Record<string, NativeTensor>; shared: boolean };

/** Memory that ran out for a checkpoint, as an error that says so; others as they are. */
function explained(error: unknown, step: number): unknown {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (!(at instanceof DeviceError)) continue;
    return new DeviceError({
      what: `the checkpoint could not be written: ${at.what}`,
      where: `checkpoint at step ${step}`,
      fix: 'raise memory.budget, or use a smaller model or an optimizer with less state (sgd); the batch size makes no difference',
      cause: error,
    });
  }
  return error;
}

export class CheckpointWriter {
  /** The one that is being written while training goes on. */
  private writing: Promise<void> = Promise.resolve();
  private last = performance.now();
  private share = false;

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
    const { store, session, progress, processes, report } = this.options;
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
    const contents = this.contents(event.step);
    await gatherGenerators(processes, contents.optimizer);
    const log = this.options.logPosition?.(event) ?? { bytes: 0, state: null };
    const { config, computed, dataFingerprint, graphHash, hashes, stepsPerEpoch } = this.options.identity();
    // A copy: it is written while the next steps, and perhaps the end of an epoch, change the originals.
    const state = structuredClone({
      step: event.step,
      ...progress.state,
      regular: progress.isRegular(event.step, stepsPerEpoch, this.options.epochs),
      steps_per_epoch: stepsPerEpoch,
      config,
      computed,
      data_fingerprint: dataFingerprint,
      graph_hash: graphHash,
      ...(hashes && { hashes }),
      parts: this.options.state.save(),
      log_bytes: log.bytes,
      log_state: log.state,
    });
    const { keptSteps } = progress;
    event.pauseSeconds = secondsSince();
    const commit = async (): Promise<void> => {
      try {
        event.path = await store.save({ state, keptSteps, ...contents });
      } catch (error) {
        throw explained(error, event.step);
      } finally {
        contents.dispose();
        for (const tensor of Object.values(contents.optimizer)) tensor.dispose();
      }
      event.seconds = secondsSince();
      if (contents.shared) event.pauseSeconds = event.seconds;
      report(event);
    };
    this.writing = undisturbed(commit);
    // Thrown where it is awaited; steps in between need not be computed.
    this.writing.catch((error: unknown) => this.options.onFailure(error as Error));
    if (contents.shared) await this.writing;
  }

  /** From now on training stands still until a checkpoint is on the disk, which takes no memory of its own. */
  writeWithoutCopy(): void {
    this.share = true;
  }

  /**
   * A copy of what a checkpoint holds; without the memory for one, weights and optimizer themselves.
   *
   * @throws DeviceError if there is no memory for anything.
   */
  private contents(step: number): SharedContents {
    if (!this.share) {
      try {
        return this.take(false);
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error;
        const message = `no memory for the copy of the checkpoint at step ${step}: training waits until it is written`;
        this.options.report({ type: 'warning', message });
      }
    }
    try {
      return this.take(true);
    } catch (error) {
      throw explained(error, step);
    }
  }

  private take(share: boolean): SharedContents {
    const { model, session } = this.options;
    const weights = copyModel(model, { share });
    try {
      return { ...weights, optimizer: session.snapshot({ share }), shared: share };
    } catch (error) {
      weights.dispose();
      throw error;
    }
  }

  /** What a checkpoint that rank 0 writes needs of this process. */
  private async contribute(): Promise<void> {
    const snapshot = this.options.session.snapshot({ share: true });
    try {
      await gatherGenerators(this.options.processes, snapshot);
    } finally {
      for (const tensor of Object.values(snapshot)) tensor.dispose();
    }
  }
}
