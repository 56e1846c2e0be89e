/** What is open while a run trains: native session and loader, evaluator, books, and what plugs into them. */
import { fixedTrain } from '../config/fixed_train.js';
import type { FixedTrain } from '../config/schema.js';
import type { Processes } from '../dist/processes.js';
import { DataError } from '../errors.js';
import type { NativeLoader, NativeTrain } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { AveragedModel } from './averaged_model.js';
import type { Checkpoint } from './checkpoint.js';
import { CheckpointWriter } from './checkpoint_writer.js';
import { forDevice } from './cuda_graphs.js';
import { Evaluator } from './evaluator.js';
import { checkResumable, isExtended, type ResumeIdentity } from './resume.js';
import { endBudget } from './memory.js';
import { restoreRun } from './restore_run.js';
import type { RunDevices } from './run_devices.js';
import { RUN_FEATURES, type Opening } from './run_features.js';
import { RunHooks } from './run_hooks.js';
import { identityOf } from './run_identity.js';
import type { RunProgress } from './run_progress.js';
import { RunState } from './run_state.js';
import type { Stop } from './stopping.js';
import { isAveraged } from './swa.js';
import { trainOptions } from './train_options.js';
import type { TrainingRunOptions } from './training_run_types.js';

export interface OpenRunOptions {
  options: TrainingRunOptions;
  processes: Processes;
  devices: RunDevices;
  progress: RunProgress;
}

export class OpenRun {
  readonly train: FixedTrain;
  readonly hooks = new RunHooks();
  session!: NativeTrain;
  loader!: NativeLoader;
  evaluator!: Evaluator;
  /** Null without `train.ema` or `train.swa`. */
  average: AveragedModel | null = null;
  /** Null without a folder for checkpoints. */
  checkpoints: CheckpointWriter | null = null;
  /** Optimizer steps. */
  stepsPerEpoch = 1;
  /** The first error of an event or of a checkpoint's write; the run ends with it after the current step. */
  failure: Error | null = null;
  /** Set between steps, by a callback for example: the run then ends there in good order. */
  stopRequest: Stop | null = null;
  readonly options: TrainingRunOptions;
  readonly processes: Processes;
  readonly devices: RunDevices;
  readonly progress: RunProgress;

  /** Nothing of it changes while the run is open. */
  private known: ResumeIdentity | null = null;

  private constructor(
    given: OpenRunOptions,
    readonly state: RunState,
  ) {
    this.options = given.options;
    this.processes = given.processes;
    this.devices = given.devices;
    this.progress = given.progress;
    this.train = fixedTrain(given.options.config.train);
  }

  /**
   * Opens everything; with a checkpoint, at the place where it was written.
   *
   * @throws TrainError if the checkpoint is of a run with other settings, another model or other data.
   */
  static async open(given: OpenRunOptions, resumeFrom: Checkpoint | null): Promise<OpenRun> {
    const { options } = given;
    // A run that was extended and died before its next checkpoint goes on as it was extended.
    const extended = resumeFrom !== null && isExtended(resumeFrom, options.config);
    const saved = resumeFrom
      ? { ...(extended && options.decisions), ...resumeFrom.state.parts }
      : options.decisions;
    const run = new OpenRun(given, new RunState(saved));
    try {
      run.openLoader();
      if (resumeFrom) {
        checkResumable(resumeFrom, run.identity(), (message) => options.report({ type: 'warning', message }));
      }
      await run.openSession({ resumed: resumeFrom !== null, extended });
      run.openEvaluator();
      run.openCheckpoints();
      if (resumeFrom) await restoreRun(run, resumeFrom);
      for (const feature of RUN_FEATURES) await feature.attach?.(run);
      return run;
    } catch (error) {
      run.dispose();
      throw error;
    }
  }

  /** The epoch after which the run ends. */
  get lastEpoch(): number {
    return Math.min(this.train.epochs, this.options.epochLimit ?? Infinity);
  }

  /** Of the whole run, as the schedule counts. */
  get totalSteps(): number {
    return this.train.epochs * this.stepsPerEpoch;
  }

  identity(): ResumeIdentity {
    return (this.known ??= identityOf(this));
  }

  /** Ends the run with an error after the current step. The first one counts. */
  fail(error: Error): void {
    this.failure ??= error;
    this.session.stop();
  }

  private openLoader(): void {
    const { data, config } = this.options;
    const workers = config.data?.workers;
    const options = data.loaderOptions('train', {
      batchSize: this.train.batchSize,
      seed: this.train.seed,
      threads: typeof workers === 'number' ? workers : this.processes.loaderThreads,
    });
    this.loader = new (loadAddon().Loader)(
      this.processes.shard(forDevice(options, this.devices.train.device), data.trainSamples),
    );
    if (this.loader.batches === 0) {
      throw new DataError({ what: 'there are no training images', fix: 'check data.path and data.train' });
    }
    this.stepsPerEpoch = Math.ceil(this.loader.batches / this.train.gradAccum);
  }

  private async openSession(how: Pick<Opening, 'resumed' | 'extended'>): Promise<void> {
    const { model, data, loss, teacher } = this.options;
    const { train, devices, processes, loader, stepsPerEpoch, state, hooks, options } = this;
    const { group } = processes;
    const session = {
      ...trainOptions(model.graph, train, {
        device: devices.train.device,
        amp: devices.amp,
        loss,
        stepsPerEpoch,
        normalize: data.preprocessing?.normalize ?? null,
        teacher,
      }),
      ...(group && { process_group: group, sync_batch_norm: train.syncBatchNorm }),
    };
    const opening = {
      ...{ options, train, devices, processes, loader, stepsPerEpoch, state, hooks, session },
      ...how,
    };
    for (const feature of RUN_FEATURES) await feature.prepare?.(opening);
    this.session = new (loadAddon().TrainSession)(model.native, session);
    // Opening a session may give parameters another memory format and so other memory.
    model.changed();
  }

  private openEvaluator(): void {
    const { model, data, loss, metrics, config, report, signal } = this.options;
    if (isAveraged(this.train)) this.average = new AveragedModel(model);
    this.evaluator = new Evaluator({
      model,
      weights: this.average?.native,
      data,
      loss,
      metrics,
      device: this.devices.eval.device,
      batchSize: config.eval.batchSize,
      threads: this.train.threads === 'auto' ? undefined : this.train.threads,
      report,
      signal,
    });
  }

  private openCheckpoints(): void {
    const { store, model, report, logPosition } = this.options;
    if (!store) return;
    this.checkpoints = new CheckpointWriter({
      store,
      model,
      report: (event) => {
        report(event);
        if (event.type === 'checkpoint') this.hooks.checkpoint(event);
      },
      ...(logPosition && { logPosition }),
      progress: this.progress,
      state: this.state,
      processes: this.processes,
      session: this.session,
      identity: () => this.identity(),
      epochs: this.train.epochs,
      onFailure: (error) => this.fail(error),
    });
  }

  /** Also of what was opened only in part. */
  dispose(): void {
    endBudget(this);
    this.evaluator?.dispose();
    this.average?.dispose();
    this.session?.dispose();
    this.loader?.dispose();
  }
}
