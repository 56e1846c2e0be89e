/** The steps of one epoch: native runs, cut where a checkpoint or a hook is due. */
import { TrainError } from '../errors.js';
import type { RunResult, StepsEvent as NativeSteps } from '../native/contract.js';
import { outOfMemoryEvent } from './memory.js';
import { countRepeated } from './cuda_graphs.js';
import { handleNonFinite } from './nan_watch.js';
import type { OpenRun } from './open_run.js';
import { outlookOf } from './outlook.js';

/** How often the native session reports. */
const EVENT_INTERVAL_MS = 200;
/** The longest delay of setTimeout (24 days). A run with more time left gets a checkpoint then, which does no harm. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** `to stop`: there is no time left, or a stop was asked for. */
export type EpochSteps = 'done' | 'aborted' | 'to stop';

/** Runs what is left of the epoch. */
export async function trainEpoch(run: OpenRun): Promise<EpochSteps> {
  const { meter } = run.progress;
  const { everyMinutes, everySteps } = run.options.config.checkpoint;
  const { session, stepsPerEpoch } = run;
  if (meter.epochStep >= stepsPerEpoch) return (await outlookOf(run)).aborted ? 'aborted' : 'done';
  run.loader.startEpoch(run.progress.epoch, meter.epochStep * run.train.gradAccum);
  while (meter.epochStep < stepsPerEpoch) {
    const before = await outlookOf(run);
    if (before.aborted) return 'aborted';
    if (before.secondsLeft <= 0 || run.stopRequest) return 'to stop';
    const untilCheckpoint = everySteps === null ? Infinity : everySteps - (session.stepCount % everySteps);
    const steps = Math.min(
      stepsPerEpoch - meter.epochStep,
      untilCheckpoint,
      run.hooks.stepsUntilDue(session.stepCount),
    );
    // Only rank 0 watches the clock: a stop of one process stops all of them before the same step.
    const untilTimed =
      everyMinutes === null
        ? Infinity
        : Math.max(0, everyMinutes * 60 - (run.checkpoints?.secondsSinceLast ?? 0));
    const seconds = run.processes.leads ? Math.min(before.secondsLeft, untilTimed) : Infinity;
    const result = await runSteps(run, steps, seconds);
    if (run.failure) throw run.failure;
    const { reason } = result;
    // The step that was left out is counted: hooks and checkpoints that are due after it follow as usual.
    if (reason === 'not_finite') await handleNonFinite(run, result);
    await run.hooks.steps({ step: session.stepCount, epoch: run.progress.epoch + 1 });
    if (meter.epochStep >= stepsPerEpoch) break;
    if (reason === 'epoch_end') {
      throw new TrainError({
        what: `the loader ended after ${meter.epochStep} of ${stepsPerEpoch} steps`,
        where: `epoch ${run.progress.epoch + 1}`,
      });
    }
    const after = await outlookOf(run);
    // Native runs are cut for hooks, too: not every one ends where a checkpoint is due.
    const due = reason === 'stopped' || (everySteps !== null && session.stepCount % everySteps === 0);
    if (due && !after.aborted && after.secondsLeft > 0) await run.checkpoints?.write('interval');
  }
  return (await outlookOf(run)).aborted ? 'aborted' : 'done';
}

/** Runs native steps until they are done, the signal fires, or the time has passed. */
async function runSteps(run: OpenRun, steps: number, seconds: number): Promise<RunResult> {
  const { signal } = run.options;
  const stop = (): void => run.session.stop();
  signal?.addEventListener('abort', stop, { once: true });
  const timer = seconds === Infinity ? null : setTimeout(stop, Math.min(seconds * 1000, LONGEST_TIMER_MS));
  try {
    const running = run.session.run(run.loader, {
      steps,
      event_interval_ms: EVENT_INTERVAL_MS,
      onEvent: (raw) => onSteps(run, raw),
      onOutOfMemory: (raw) => run.options.report(outOfMemoryEvent(raw)),
    });
    // It may have fired while the processes agreed to go on; a session forgets what stopped it before.
    if (signal?.aborted) stop();
    return await running;
  } finally {
    signal?.removeEventListener('abort', stop);
    if (timer) clearTimeout(timer);
  }
}

/** Called by the native core, where an exception has nowhere to go: it stops the run instead. */
function onSteps(run: OpenRun, raw: NativeSteps): void {
  const { progress, train, stepsPerEpoch, totalSteps } = run;
  try {
    countRepeated(run, raw);
    const epoch = progress.epoch + 1;
    run.options.report(progress.meter.take(raw, { epoch, epochs: train.epochs, stepsPerEpoch, totalSteps }));
  } catch (error) {
    run.fail(error as Error);
  }
}
