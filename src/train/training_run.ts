/**
 * The schedule of one training: epochs of native steps, evaluation, checkpoints. `Trainer` (scripts) and
 * `trainJob` (command line) both run this. It owns the native session and loader while it runs.
 */
import path from 'node:path';

import type { Config } from '../config/schema.js';
import { ownSnapshot } from '../dist/generators.js';
import { Processes } from '../dist/processes.js';
import { DataError, TrainError } from '../errors.js';
import type {
  EvaluationResult,
  NativeLoader,
  NativeTrain,
  RunResult,
  StepsEvent as NativeSteps,
} from '../native/contract.js';
import { loadAddon } from '../native.js';
import { MODEL_FILE, type Checkpoint } from './checkpoint.js';
import { CheckpointWriter } from './checkpoint_writer.js';
import { adoptAverages, AveragedModel } from './averaged_model.js';
import { Evaluator } from './evaluator.js';
import { checkResumable, comparedConfig, type ResumeIdentity } from './resume.js';
import { chooseAndReportDevices, type RunDevices } from './run_devices.js';
import { RunProgress } from './run_progress.js';
import { stopNow, timeLimit, type Stop } from './stopping.js';
import { trainOptions } from './train_options.js';
import type { TrainingResult, TrainingRunOptions } from './training_run_types.js';

/** How often the native session reports. */
const EVENT_INTERVAL_MS = 200;
/** What setTimeout takes; where more time is left, a checkpoint in between does no harm. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class TrainingRun {
  private readonly progress: RunProgress;
  private readonly train: Config['train'];
  private stepsPerEpoch = 1;
  private session!: NativeTrain;
  private loader!: NativeLoader;
  private evaluator!: Evaluator;
  /** Null without `train.ema`. */
  private average: AveragedModel | null = null;
  private devices!: RunDevices;
  private failure: Error | null = null;
  private readonly processes: Processes;
  /** Null without a folder for checkpoints. */
  private checkpoints: CheckpointWriter | null = null;

  constructor(private readonly options: TrainingRunOptions) {
    this.train = options.config.train;
    this.processes = options.processes ?? Processes.alone;
    this.progress = new RunProgress(options.config.checkpoint);
  }

  private get lastEpoch(): number {
    return Math.min(this.train.epochs, this.options.epochLimit ?? Infinity);
  }

  /** What decides whether training goes on: the same for all processes. Seconds are those of rank 0's clock. */
  private async outlook(): Promise<{ aborted: boolean; secondsLeft: number }> {
    const limit = timeLimit(this.train);
    const all = await this.processes.gather({
      aborted: this.options.signal?.aborted ?? false,
      seconds: this.progress.seconds,
    });
    return { aborted: all.some(({ aborted }) => aborted), secondsLeft: limit - all[0]!.seconds };
  }

  /** Learning rate of a step (0-based): a function of the schedule alone. */
  learningRate(step: number): number {
    return this.session.learningRate(step);
  }

  /**
   * Trains to the end or until the signal fires; then the current step is finished and a checkpoint written.
   *
   * @param resumeFrom a verified checkpoint to go on from.
   */
  async run(resumeFrom: Checkpoint | null = null): Promise<TrainingResult> {
    const { config, data, report } = this.options;
    const { localRank } = this.processes;
    this.devices = chooseAndReportDevices(config, data.evalSamples !== null, report, localRank);
    try {
      await this.processes.requireSame(this.fingerprints());
      this.open();
      this.openCheckpoints();
      if (resumeFrom) await this.restore(resumeFrom);
      await this.options.onReady?.();
      this.reportStart();
      while (this.progress.epoch < this.lastEpoch) {
        const { history, seconds } = this.progress;
        const stop = await this.processes.lead(() => stopNow(config, history, seconds));
        if (stop) return await this.stop(stop);
        const ended = await this.trainEpoch();
        if (ended === 'out of time') continue;
        if (ended === 'aborted' || !(await this.finishEpoch())) return await this.interrupt();
      }
      await this.checkpoints?.done();
      return this.result({});
    } finally {
      await this.checkpoints?.done().catch(() => undefined);
      this.evaluator?.dispose();
      this.average?.dispose();
      this.session?.dispose();
      this.loader?.dispose();
      // Also after a failure: the weights are those of the last step.
      this.options.model.changed();
    }
  }

  private open(): void {
    const { model, data, loss, config, report, signal } = this.options;
    const { Loader, TrainSession } = loadAddon();
    const workers = config.data?.workers;
    this.loader = new Loader(
      this.processes.shard(
        data.loaderOptions('train', {
          batchSize: this.train.batchSize,
          seed: this.train.seed,
          threads: typeof workers === 'number' ? workers : this.processes.loaderThreads,
        }),
        data.trainSamples,
      ),
    );
    if (this.loader.batches === 0) {
      throw new DataError({ what: 'there are no training images', fix: 'check data.path and data.train' });
    }
    this.stepsPerEpoch = Math.ceil(this.loader.batches / this.train.gradAccum);
    const { group } = this.processes;
    this.session = new TrainSession(model.native, {
      ...trainOptions(model.graph, this.train, {
        device: this.devices.train.device,
        amp: this.devices.amp,
        loss,
        stepsPerEpoch: this.stepsPerEpoch,
        normalize: data.preprocessing.normalize,
        teacher: this.options.teacher,
      }),
      ...(group && { process_group: group, sync_batch_norm: this.train.syncBatchNorm }),
    });
    // Opening a session may give parameters another memory format and so other memory.
    model.changed();
    if (this.train.ema) this.average = new AveragedModel(model);
    this.evaluator = new Evaluator({
      model,
      weights: this.average?.native,
      data,
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
      report,
      ...(logPosition && { logPosition }),
      progress: this.progress,
      processes: this.processes,
      session: this.session,
      identity: () => this.identity(),
      onFailure: (error) => {
        this.failure ??= error;
        this.session.stop();
      },
    });
  }

  /** What several processes must have in common. */
  private fingerprints(): Record<string, string> {
    const { config, data, model } = this.options;
    const { device: _, ...compared } = comparedConfig(config);
    return { config: JSON.stringify(compared), 'data set': data.fingerprint, model: model.graphHash() };
  }

  private identity(): ResumeIdentity {
    const { config, data, model } = this.options;
    return {
      config: comparedConfig(config),
      computed: {
        device: this.devices.train.type,
        amp: this.devices.amp,
        threads: this.train.threads === 'auto' ? loadAddon().systemInfo().threads : this.train.threads,
        ...(this.processes.world > 1 && { processes: this.processes.world }),
      },
      dataFingerprint: data.fingerprint,
      graphHash: model.graphHash(),
      stepsPerEpoch: this.stepsPerEpoch,
    };
  }

  private async restore(checkpoint: Checkpoint): Promise<void> {
    const { model, report, store } = this.options;
    const { state } = checkpoint;
    checkResumable(checkpoint, this.identity(), (message) => report({ type: 'warning', message }));
    await model.loadWeights(path.join(checkpoint.path, MODEL_FILE));
    const optimizer = ownSnapshot(this.processes, await store!.optimizer(checkpoint));
    try {
      this.session.restore(optimizer, state.step);
    } finally {
      for (const tensor of Object.values(optimizer)) tensor.dispose();
    }
    this.progress.restore(state);
    report({
      type: 'resumed',
      path: checkpoint.path,
      step: state.step,
      epoch: state.epoch,
      message: `Resumed at epoch ${state.epoch + 1}, step ${state.step}, from ${checkpoint.path}`,
    });
  }

  private reportStart(): void {
    const { data, model, report, run } = this.options;
    report({
      type: 'start',
      run: run?.name ?? null,
      folder: run?.folder ?? null,
      model: model.info.name,
      parameters: model.parameterCount,
      classes: data.classes.length,
      trainSamples: data.trainSamples,
      evalSamples: data.evalSamples,
      epochs: this.train.epochs,
      stepsPerEpoch: this.stepsPerEpoch,
      totalSteps: this.train.epochs * this.stepsPerEpoch,
      firstStep: this.session.stepCount,
    });
  }

  /** Runs what is left of the epoch. */
  private async trainEpoch(): Promise<'done' | 'aborted' | 'out of time'> {
    const { meter } = this.progress;
    const { everyMinutes, everySteps } = this.options.config.checkpoint;
    if (meter.epochStep < this.stepsPerEpoch) {
      this.loader.startEpoch(this.progress.epoch, meter.epochStep * this.train.gradAccum);
    }
    while (meter.epochStep < this.stepsPerEpoch) {
      const before = await this.outlook();
      if (before.aborted) return 'aborted';
      if (before.secondsLeft <= 0) return 'out of time';
      const left = this.stepsPerEpoch - meter.epochStep;
      const steps =
        everySteps === null ? left : Math.min(left, everySteps - (this.session.stepCount % everySteps));
      // A stop that reaches one process stops all of them before the same step: one clock is enough.
      const seconds = this.processes.leads
        ? Math.min(before.secondsLeft, everyMinutes === null ? Infinity : everyMinutes * 60)
        : Infinity;
      const reason = await this.runSteps(steps, seconds);
      if (this.failure) throw this.failure;
      if (meter.epochStep >= this.stepsPerEpoch) break;
      if (reason === 'epoch_end') {
        throw new TrainError({
          what: `the loader ended after ${meter.epochStep} of ${this.stepsPerEpoch} steps`,
          where: `epoch ${this.progress.epoch + 1}`,
        });
      }
      const after = await this.outlook();
      if (!after.aborted && after.secondsLeft > 0) await this.checkpoints?.write('interval');
    }
    return (await this.outlook()).aborted ? 'aborted' : 'done';
  }

  /** Runs native steps until they are done, the signal fires, or the time has passed. */
  private async runSteps(steps: number, seconds: number): Promise<RunResult['reason']> {
    const stop = (): void => this.session.stop();
    this.options.signal?.addEventListener('abort', stop, { once: true });
    const timer = seconds === Infinity ? null : setTimeout(stop, Math.min(seconds * 1000, LONGEST_TIMER_MS));
    try {
      const { reason } = await this.session.run(this.loader, {
        steps,
        event_interval_ms: EVENT_INTERVAL_MS,
        onEvent: (raw) => this.onSteps(raw),
      });
      return reason;
    } finally {
      this.options.signal?.removeEventListener('abort', stop);
      if (timer) clearTimeout(timer);
    }
  }

  /** Called by the native core, where an exception has nowhere to go: it stops the run instead. */
  private onSteps(raw: NativeSteps): void {
    try {
      this.takeSteps(raw);
    } catch (error) {
      this.failure ??= error as Error;
    }
    if (this.failure) this.session.stop();
  }

  private takeSteps(raw: NativeSteps): void {
    const { progress } = this;
    const event = progress.meter.take(raw, {
      epoch: progress.epoch + 1,
      epochs: this.train.epochs,
      stepsPerEpoch: this.stepsPerEpoch,
      totalSteps: this.train.epochs * this.stepsPerEpoch,
    });
    this.options.report(event);
    // With a gradient scaler single infinite losses are skipped steps; otherwise the weights are lost already.
    const bad = raw.losses.findIndex((loss) => !Number.isFinite(loss));
    const scaled = this.devices.amp === 'fp16' && raw.losses.some((loss) => Number.isFinite(loss));
    if (bad < 0 || this.failure || scaled) return;
    this.failure = new TrainError({
      what: `the loss became ${raw.losses[bad]} at step ${raw.step - raw.losses.length + bad + 1}`,
      where: `epoch ${progress.epoch + 1}, learning rate ${raw.lr}`,
      fix: 'lower train.lr, lengthen the warm-up, set train.clip_norm, or check the images; the last checkpoint is sound (--resume)',
    });
  }

  /** Evaluates, keeps the books, writes a checkpoint. False: the signal fired before all that was done. */
  private async finishEpoch(): Promise<boolean> {
    const { progress } = this;
    const { config, data, report } = this.options;
    const started = performance.now();
    const epoch = progress.epoch + 1;
    const last = epoch === this.lastEpoch;
    let metrics: EvaluationResult | null = null;
    if (data.evalSamples !== null && (last || epoch % config.eval.everyEpochs === 0)) {
      this.average?.take(this.session);
      metrics = await this.processes.lead(() => this.evaluator.evaluate(epoch));
      if (metrics === null) return false;
    }
    const step = this.session.stepCount;
    const lr = this.session.learningRate(step - 1);
    const { epochLoss: loss, epochSamples: samples, epochSeconds: seconds } = progress.meter;
    const samplesPerSecond = seconds > 0 ? samples / seconds : 0;
    report({
      type: 'epoch',
      epoch,
      epochs: this.train.epochs,
      step,
      loss,
      lr,
      samples,
      seconds,
      samplesPerSecond,
    });
    this.observe(metrics, loss);
    const best = progress.completeEpoch(step, lr, metrics);
    if (metrics) {
      report({
        type: 'evaluation',
        epoch,
        step,
        best,
        weights: 'last',
        loss: metrics.loss,
        top1: metrics.top1,
        top5: metrics.top5,
        samples: metrics.samples,
        seconds: metrics.seconds,
      });
    }
    // A checkpoint of the best epoch is needed even between the regular ones: its weights become the model.
    if (last || best || epoch % config.checkpoint.everyEpochs === 0) {
      await this.checkpoints?.write(last ? 'final' : 'epoch');
    }
    progress.meter.addOverhead((performance.now() - started) / 1000);
    return last || !(await this.outlook()).aborted;
  }

  /** For the schedule that looks at a metric. Without validation images it sees the training loss. */
  private observe(metrics: EvaluationResult | null, trainLoss: number): void {
    const { schedule } = this.train;
    if (schedule.name !== 'reduce_on_plateau') return;
    if (metrics)
      this.session.observe(schedule.metric === 'top1' ? metrics.top1 : (metrics.loss ?? trainLoss));
    else if (this.options.data.evalSamples === null && schedule.metric === 'loss') {
      this.session.observe(trainLoss);
    }
  }

  private async interrupt(): Promise<TrainingResult> {
    await this.checkpoints?.done();
    // An interruption right after a regular checkpoint needs no second one.
    const covered = await this.processes.lead(async () => {
      const newest = (await this.options.store?.list())?.[0];
      return newest?.step === this.session.stepCount && this.progress.meter.epochStep === 0;
    });
    if (!covered) await this.checkpoints?.write('interrupted');
    await this.checkpoints?.done();
    const checkpoint = (await this.options.store?.list())?.[0]?.path ?? null;
    return this.result({ interrupted: true, checkpoint });
  }

  private async stop({ reason, message }: Stop): Promise<TrainingResult> {
    const { epoch, meter } = this.progress;
    this.options.report({ type: 'stopped', reason, step: this.session.stepCount, epoch, message });
    // At the end of an epoch there is one already.
    if (meter.epochStep > 0) await this.checkpoints?.write('stopped');
    await this.checkpoints?.done();
    return this.result({ stopped: reason });
  }

  private result(
    how: Partial<Pick<TrainingResult, 'interrupted' | 'stopped' | 'checkpoint'>>,
  ): TrainingResult {
    const { history, best, epoch, meter } = this.progress;
    // An interrupted run goes on from the weights themselves.
    if (this.average && !how.interrupted) adoptAverages(this.options.model, this.session);
    return {
      interrupted: false,
      stopped: null,
      checkpoint: null,
      ...how,
      epochEnd: meter.epochStep === 0,
      history,
      best,
      step: this.session.stepCount,
      epochs: epoch,
    };
  }
}
