/**
 * The schedule of one training: epochs of native steps, evaluation, checkpoints. `Trainer` (scripts) and
 * `trainJob` (command line) both run this. It owns the native session and loader while it runs.
 */
import type { Config } from '../config/schema.js';
import { AbortedError, DataError, TrainError } from '../errors.js';
import { evaluationSession, runEvaluation } from '../eval/run_evaluation.js';
import type { Graph } from '../graph/format.js';
import type { Model } from '../model.js';
import type {
  NativeInference,
  NativeLoader,
  NativeTrain,
  StepsEvent as NativeSteps,
} from '../native/contract.js';
import { loadAddon } from '../native.js';
import type { BestRecord, Checkpoint, CheckpointStore, EpochRecord } from './checkpoint.js';
import type { TrainData } from './data.js';
import { chooseAmp, describeDevice, resolveDevice, type Amp, type ResolvedDevice } from './devices.js';
import type { CheckpointEvent, EvaluationMetrics, Report } from './events.js';
import { checkResumable, comparedConfig } from './resume.js';
import { StepMeter } from './step_meter.js';
import { trainOptions } from './train_options.js';

export type RunConfig = Pick<Config, 'train' | 'device' | 'eval' | 'checkpoint'> & Partial<Config>;

export interface TrainingRunOptions {
  model: Model;
  data: TrainData;
  config: RunConfig;
  /** Graph over the model's outputs and the batch's fields with a scalar output `loss`. */
  loss: Graph;
  /** Null: no checkpoints. */
  store: CheckpointStore | null;
  report: Report;
  signal?: AbortSignal | undefined;
  /** What the log has by now; stored in checkpoints. Called right before one is written. */
  logPosition?: (event: CheckpointEvent) => { bytes: number; state: unknown };
  /** For the start event. */
  run?: { name: string; folder: string } | undefined;
}

export interface TrainingResult {
  interrupted: boolean;
  /** Written because of the interruption; null without a store. */
  checkpoint: string | null;
  history: EpochRecord[];
  best: BestRecord | null;
  step: number;
  epochs: number;
}

export class TrainingRun {
  private epoch = 0;
  private history: EpochRecord[] = [];
  private best: BestRecord | null = null;
  private stepsPerEpoch = 1;
  private readonly meter = new StepMeter();
  private session!: NativeTrain;
  private loader!: NativeLoader;
  private evaluator: NativeInference | null = null;
  private trainDevice!: ResolvedDevice;
  private evalDevice!: ResolvedDevice;
  private amp: Amp = 'off';
  private failure: TrainError | null = null;

  constructor(private readonly options: TrainingRunOptions) {}

  private get train(): Config['train'] {
    return this.options.config.train;
  }

  private get aborted(): boolean {
    return this.options.signal?.aborted ?? false;
  }

  /** Learning rate after which a step is taken; for the log. */
  learningRate(step: number): number {
    return this.session.learningRate(step);
  }

  /**
   * Trains to the end or until the signal fires; then the current step is finished and a checkpoint written.
   *
   * @param resumeFrom a verified checkpoint to go on from.
   */
  async run(resumeFrom: Checkpoint | null = null): Promise<TrainingResult> {
    this.chooseDevices();
    try {
      this.open();
      if (resumeFrom) await this.restore(resumeFrom);
      this.reportStart(resumeFrom !== null);
      while (this.epoch < this.train.epochs) {
        if (!(await this.trainEpoch()) || !(await this.finishEpoch())) return await this.interrupt();
      }
      return this.result(false, null);
    } finally {
      this.close();
    }
  }

  private chooseDevices(): void {
    const { config, report } = this.options;
    const info = loadAddon().systemInfo();
    this.trainDevice = resolveDevice(config.device.train, info);
    this.evalDevice = resolveDevice(config.device.eval, info);
    const precision = chooseAmp(this.train.amp, this.trainDevice, info);
    this.amp = precision.amp;
    report({
      type: 'device',
      phase: 'train',
      device: this.trainDevice.device,
      deviceName: this.trainDevice.name,
      amp: this.amp,
      message: describeDevice('train', this.trainDevice, info, precision),
    });
    if (this.options.data.evalSamples === null) return;
    report({
      type: 'device',
      phase: 'eval',
      device: this.evalDevice.device,
      deviceName: this.evalDevice.name,
      amp: 'off',
      message: describeDevice('eval', this.evalDevice, info),
    });
  }

  private open(): void {
    const { model, data, loss, config } = this.options;
    const { Loader, TrainSession } = loadAddon();
    const workers = config.data?.workers;
    this.loader = new Loader(
      data.loaderOptions('train', {
        batchSize: this.train.batchSize,
        seed: this.train.seed,
        threads: typeof workers === 'number' ? workers : undefined,
      }),
    );
    if (this.loader.batches === 0) {
      throw new DataError({ what: 'there are no training images', fix: 'check data.path and data.train' });
    }
    this.stepsPerEpoch = Math.ceil(this.loader.batches / this.train.gradAccum);
    this.session = new TrainSession(
      model.native,
      trainOptions(model.graph, this.train, {
        device: this.trainDevice.device,
        amp: this.amp,
        loss,
        stepsPerEpoch: this.stepsPerEpoch,
        normalize: data.preprocessing.normalize,
      }),
    );
  }

  private async restore(checkpoint: Checkpoint): Promise<void> {
    const { model, report, store } = this.options;
    const { state } = checkpoint;
    checkResumable(checkpoint, this.identity(), (message) => report({ type: 'warning', message }));
    await model.loadWeights(`${checkpoint.path}/model.safetensors`);
    const optimizer = await store!.optimizer(checkpoint);
    try {
      this.session.restore(optimizer, state.step);
    } finally {
      for (const tensor of Object.values(optimizer)) tensor.dispose();
    }
    this.epoch = state.epoch;
    this.history = [...state.history];
    this.best = state.best;
    this.meter.beginEpoch(state.epoch_step, state.epoch_loss_sum);
    report({
      type: 'resumed',
      path: checkpoint.path,
      step: state.step,
      epoch: state.epoch,
      message: `Resumed at epoch ${state.epoch + 1}, step ${state.step}, from ${checkpoint.path}`,
    });
  }

  private identity(): Parameters<typeof checkResumable>[1] {
    const { config, data, model } = this.options;
    return {
      config: comparedConfig(config),
      dataFingerprint: data.fingerprint,
      graphHash: model.graphHash(),
      stepsPerEpoch: this.stepsPerEpoch,
    };
  }

  private reportStart(resumed: boolean): void {
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
      firstStep: resumed ? this.session.stepCount : 0,
    });
  }

  /** Runs what is left of the epoch. False: the signal fired. */
  private async trainEpoch(): Promise<boolean> {
    const { meter } = this;
    if (meter.epochStep >= this.stepsPerEpoch) return !this.aborted;
    this.loader.startEpoch(this.epoch, meter.epochStep * this.train.gradAccum);
    const minutes = this.options.config.checkpoint.everyMinutes;
    while (meter.epochStep < this.stepsPerEpoch) {
      if (this.aborted) return false;
      const before = meter.epochStep;
      await this.runSteps(this.stepsPerEpoch - before, minutes === null ? null : minutes * 60_000);
      if (this.failure) throw this.failure;
      if (this.aborted) return false;
      if (meter.epochStep < this.stepsPerEpoch) {
        if (meter.epochStep === before && minutes === null) {
          throw new TrainError('the loader ended before its epoch was complete');
        }
        await this.checkpoint('interval');
      }
    }
    return true;
  }

  /** Runs native steps until they are done, the signal fires, or `maxMs` have passed. */
  private async runSteps(steps: number, maxMs: number | null): Promise<void> {
    const stop = (): void => this.session.stop();
    this.options.signal?.addEventListener('abort', stop, { once: true });
    const timer = maxMs === null ? null : setTimeout(stop, maxMs);
    try {
      await this.session.run(this.loader, {
        steps,
        event_interval_ms: 200,
        onEvent: (raw) => this.onSteps(raw),
      });
    } finally {
      this.options.signal?.removeEventListener('abort', stop);
      if (timer) clearTimeout(timer);
    }
  }

  private onSteps(raw: NativeSteps): void {
    const event = this.meter.take(raw, {
      epoch: this.epoch + 1,
      epochs: this.train.epochs,
      stepsPerEpoch: this.stepsPerEpoch,
      totalSteps: this.train.epochs * this.stepsPerEpoch,
    });
    this.options.report(event);
    // With a gradient scaler single infinite losses are skipped steps; otherwise the weights are lost already.
    const bad = raw.losses.findIndex((loss) => !Number.isFinite(loss));
    if (bad < 0 || this.failure || (this.amp === 'fp16' && raw.losses.some((loss) => Number.isFinite(loss))))
      return;
    this.failure = new TrainError({
      what: `the loss became ${raw.losses[bad]} at step ${raw.step - raw.losses.length + bad + 1}`,
      where: `epoch ${this.epoch + 1}, learning rate ${raw.lr}`,
      fix: 'lower train.lr, lengthen the warm-up, set train.clip_norm, or check the images; the last checkpoint is sound (--resume)',
    });
    this.session.stop();
  }

  /** Evaluates, keeps the books, writes a checkpoint. False: the signal fired before all that was done. */
  private async finishEpoch(): Promise<boolean> {
    const { meter } = this;
    const { config, report } = this.options;
    const number = this.epoch + 1;
    const last = number === this.train.epochs;
    const step = this.session.stepCount;
    const started = performance.now();
    const evaluate =
      this.options.data.evalSamples !== null && (last || number % config.eval.everyEpochs === 0);
    const metrics = evaluate ? await this.evaluate(number) : null;
    if (evaluate && metrics === null) return false;
    const lr = this.session.learningRate(step - 1);
    report({
      type: 'epoch',
      epoch: number,
      epochs: this.train.epochs,
      step,
      loss: meter.epochLoss,
      lr,
      samples: meter.epochSamples,
      seconds: meter.epochSeconds,
      samplesPerSecond: meter.epochSeconds > 0 ? meter.epochSamples / meter.epochSeconds : 0,
    });
    this.history.push({
      epoch: number,
      step,
      loss: meter.epochLoss,
      lr,
      evaluation: metrics && {
        loss: metrics.loss,
        top1: metrics.top1,
        top5: metrics.top5,
        samples: metrics.samples,
      },
    });
    const isBest = metrics !== null && this.isBest(metrics);
    if (isBest) this.best = { step, epoch: number, value: this.monitored(metrics)! };
    if (metrics) {
      report({
        type: 'evaluation',
        epoch: number,
        step,
        best: isBest,
        weights: 'last',
        loss: metrics.loss,
        top1: metrics.top1,
        top5: metrics.top5,
        samples: metrics.samples,
        seconds: metrics.seconds,
      });
    }
    this.epoch = number;
    meter.beginEpoch(0, 0);
    // A checkpoint of the best epoch is needed even between the regular ones: its weights become the model.
    if (last || isBest || number % config.checkpoint.everyEpochs === 0) {
      await this.checkpoint(last ? 'final' : 'epoch');
    }
    meter.addOverhead((performance.now() - started) / 1000);
    return last || !this.aborted;
  }

  private monitored(metrics: EvaluationMetrics): number | null {
    return metrics[this.options.config.checkpoint.monitor];
  }

  private isBest(metrics: EvaluationMetrics): boolean {
    const value = this.monitored(metrics);
    if (value === null || Number.isNaN(value)) return false;
    if (this.best === null) return true;
    return this.options.config.checkpoint.mode === 'min' ? value < this.best.value : value > this.best.value;
  }

  /** Null if the signal fired. */
  private async evaluate(epoch: number): Promise<(EvaluationMetrics & { seconds: number }) | null> {
    const { data, model, config, report, signal } = this.options;
    const threads = this.train.threads;
    this.evaluator ??= evaluationSession(model.native, {
      device: this.evalDevice.device,
      normalize: data.preprocessing.normalize,
      threads: threads === 'auto' ? undefined : threads,
    });
    this.evaluator.refresh();
    try {
      return await runEvaluation(
        this.evaluator,
        data.loaderOptions('eval', { batchSize: config.eval.batchSize, seed: 0 }),
        {
          classes: data.classes.length,
          signal,
          onProgress: (done, total) => report({ type: 'evaluation_progress', epoch, done, total }),
        },
      );
    } catch (error) {
      if (error instanceof AbortedError && this.aborted) return null;
      throw error;
    }
  }

  private async checkpoint(reason: CheckpointEvent['reason']): Promise<string | null> {
    const { store, model, data, report, config } = this.options;
    if (!store) return null;
    const started = performance.now();
    const step = this.session.stepCount;
    const event: CheckpointEvent = {
      type: 'checkpoint',
      step,
      epoch: this.epoch,
      path: '',
      reason,
      seconds: 0,
    };
    const log = this.options.logPosition?.(event) ?? { bytes: 0, state: null };
    const optimizer = this.session.snapshot();
    try {
      event.path = await store.save({
        state: {
          step,
          epoch: this.epoch,
          epoch_step: this.meter.epochStep,
          steps_per_epoch: this.stepsPerEpoch,
          epoch_loss_sum: this.meter.epochLossSum,
          best: this.best,
          history: this.history,
          config: comparedConfig(config),
          data_fingerprint: data.fingerprint,
          graph_hash: model.graphHash(),
          log_bytes: log.bytes,
          log_state: log.state,
        },
        saveModel: async (file) => void (await model.save(file)),
        optimizer,
      });
    } finally {
      for (const tensor of Object.values(optimizer)) tensor.dispose();
    }
    event.seconds = (performance.now() - started) / 1000;
    report(event);
    return event.path;
  }

  private async interrupt(): Promise<TrainingResult> {
    // An interruption right after a regular checkpoint needs no second one.
    const newest = (await this.options.store?.list())?.[0];
    const covered = newest?.step === this.session.stepCount && this.meter.epochStep === 0;
    const checkpoint = covered ? newest.path : await this.checkpoint('interrupted');
    return this.result(true, checkpoint);
  }

  private result(interrupted: boolean, checkpoint: string | null): TrainingResult {
    this.options.model.changed();
    return {
      interrupted,
      checkpoint,
      history: this.history,
      best: this.best,
      step: this.session.stepCount,
      epochs: this.epoch,
    };
  }

  private close(): void {
    this.evaluator?.dispose();
    this.session?.dispose();
    this.loader?.dispose();
  }
}
