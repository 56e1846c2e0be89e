/**
 * The schedule of one training: epochs of native steps, evaluation, checkpoints. `Trainer` (scripts) and
 * `trainJob` (command line) both run this. What is open meanwhile is an `OpenRun`; what plugs into it is listed in
 * run_features.ts.
 */
import { Processes } from '../dist/processes.js';
import { adoptAverages } from './averaged_model.js';
import type { Checkpoint } from './checkpoint.js';
import { finishEpoch } from './epoch_end.js';
import { trainEpoch } from './epoch_steps.js';
import { OpenRun } from './open_run.js';
import { chooseAndReportDevices } from './run_devices.js';
import { fingerprintsOf } from './run_identity.js';
import { RunProgress, skippedSteps } from './run_progress.js';
import { stopNow, type Stop } from './stopping.js';
import { swaBegun } from './swa.js';
import type { TrainingResult, TrainingRunOptions } from './training_run_types.js';

export class TrainingRun {
  readonly progress: RunProgress;
  private readonly processes: Processes;
  private open: OpenRun | null = null;

  constructor(private readonly options: TrainingRunOptions) {
    this.processes = options.processes ?? Processes.alone;
    this.progress = new RunProgress(options.config.checkpoint);
  }

  /** Learning rate of a step (0-based): a function of the schedule alone. */
  learningRate(step: number): number {
    return this.open!.session.learningRate(step);
  }

  /**
   * Trains to the end or until the signal fires; then the current step is finished and a checkpoint written.
   *
   * @param resumeFrom a verified checkpoint to go on from.
   */
  async run(resumeFrom: Checkpoint | null = null): Promise<TrainingResult> {
    const { config, data, report } = this.options;
    const { processes, progress } = this;
    const devices = chooseAndReportDevices(config, data.evalSamples !== null, report, processes.localRank);
    try {
      await processes.requireSame(fingerprintsOf(this.options));
      const run = await OpenRun.open({ options: this.options, processes, devices, progress }, resumeFrom);
      this.open = run;
      await this.options.onReady?.(run.state.saveDecided());
      reportStart(run);
      const result = await this.trainAll(run);
      await run.hooks.end();
      return result;
    } finally {
      await this.open?.checkpoints?.done().catch(() => undefined);
      this.open?.dispose();
      // Also after a failure: the weights are those of the last step.
      this.options.model.changed();
    }
  }

  private async trainAll(run: OpenRun): Promise<TrainingResult> {
    const { progress } = run;
    while (progress.epoch < run.lastEpoch) {
      const { history, seconds } = progress;
      const stop = await this.processes.lead(
        () => run.stopRequest ?? stopNow(this.options.config, history, seconds),
      );
      if (stop) return await stopEarly(run, stop);
      const ended = await trainEpoch(run);
      if (ended === 'to stop') continue;
      if (ended === 'aborted' || !(await finishEpoch(run))) return await interrupt(run);
    }
    await run.checkpoints?.done();
    return resultOf(run, {});
  }
}

function reportStart({ options, train, stepsPerEpoch, totalSteps, session }: OpenRun): void {
  const { data, model, report, run } = options;
  report({
    type: 'start',
    run: run?.name ?? null,
    folder: run?.folder ?? null,
    model: model.info.name,
    parameters: model.parameterCount,
    classes: data.classes.length,
    trainSamples: data.trainSamples,
    evalSamples: data.evalSamples,
    epochs: train.epochs,
    stepsPerEpoch,
    totalSteps,
    firstStep: session.stepCount,
  });
}

/** Whether the newest checkpoint is of this very place, so that no second one is needed. */
async function isCovered({ checkpoints, options, progress, session, processes }: OpenRun): Promise<boolean> {
  await checkpoints?.done();
  return processes.lead(async () => {
    const newest = (await options.store?.list())?.[0];
    return newest?.step === session.stepCount && progress.meter.epochStep === 0;
  });
}

async function interrupt(run: OpenRun): Promise<TrainingResult> {
  const { checkpoints, processes } = run;
  const { store } = run.options;
  if (!(await isCovered(run))) await checkpoints?.write('interrupted');
  await checkpoints?.done();
  // The others wait for rank 0: a launcher (torchrun) gives it little time once one of them has ended.
  const checkpoint = await processes.lead(async () => (await store?.list())?.[0]?.path ?? null);
  return resultOf(run, { interrupted: true, checkpoint });
}

async function stopEarly(run: OpenRun, { reason, message }: Stop): Promise<TrainingResult> {
  const { session, checkpoints } = run;
  const { epoch } = run.progress;
  // The books of one that is there may not know yet that the time is over: a resume would train on.
  if (reason === 'max_time' || !(await isCovered(run))) await checkpoints?.write('stopped');
  // After the checkpoint, whose log must not have it: a run that is resumed from there reports it again.
  run.options.report({ type: 'stopped', reason, step: session.stepCount, epoch, message });
  await checkpoints?.done();
  return resultOf(run, { stopped: reason });
}

function resultOf(
  { options, progress, session, average, train }: OpenRun,
  how: Partial<Pick<TrainingResult, 'interrupted' | 'stopped' | 'checkpoint'>>,
): TrainingResult {
  const { history, best, epoch, meter } = progress;
  const begun = swaBegun(session, train);
  // Of an interrupted run the model keeps the weights that training goes on from.
  if (average && !how.interrupted) adoptAverages(options.model, session);
  return {
    interrupted: false,
    stopped: null,
    checkpoint: null,
    ...how,
    epochEnd: meter.epochStep === 0,
    history,
    best,
    swaBegun: begun,
    ...skippedSteps(progress),
    step: session.stepCount,
    epochs: epoch,
  };
}
