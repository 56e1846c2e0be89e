/** The end of an epoch: it is evaluated, entered in the books and kept. */
import { figure, figuresOf } from './evaluation_figures.js';
import type { Evaluation } from './evaluator.js';
import type { EvaluationEvent } from './events.js';
import type { OpenRun } from './open_run.js';
import { outlookOf } from './outlook.js';
import { skippedSteps } from './run_progress.js';

/** Evaluates, keeps the books, writes a checkpoint. False: the signal fired before all that was done. */
export async function finishEpoch(run: OpenRun): Promise<boolean> {
  const { progress, session } = run;
  const { config, data, report } = run.options;
  const started = performance.now();
  const epoch = progress.epoch + 1;
  const last = epoch === run.lastEpoch;
  let metrics: Evaluation | null = null;
  if (data.evalSamples !== null && (last || epoch % config.eval.everyEpochs === 0)) {
    run.average?.take(session);
    metrics = await run.processes.lead(() => run.evaluator.evaluate(epoch));
    if (metrics === null) return false;
  }
  const step = session.stepCount;
  const lr = session.learningRate(step - 1);
  const { epochLoss: loss, epochSamples: samples, epochSeconds: seconds } = progress.meter;
  const samplesPerSecond = seconds > 0 ? samples / seconds : 0;
  const { epochs } = run.train;
  const skipped = skippedSteps(progress);
  report({ type: 'epoch', epoch, epochs, step, loss, lr, samples, seconds, samplesPerSecond, ...skipped });
  observe(run, metrics, loss);
  const best = progress.completeEpoch(step, lr, metrics);
  const evaluation: EvaluationEvent | null = metrics && {
    type: 'evaluation',
    epoch,
    step,
    best,
    weights: 'last',
    ...figuresOf(metrics),
    seconds: metrics.seconds,
  };
  if (evaluation) report(evaluation);
  await run.hooks.epochEnd({ step, epoch, last, loss, lr, evaluation });
  // Epochs among the best get a checkpoint whatever the interval: one of them becomes the model.
  if (last || progress.isRegular(step, run.stepsPerEpoch, epochs)) {
    await run.checkpoints?.write(last ? 'final' : 'epoch');
  }
  progress.meter.addOverhead((performance.now() - started) / 1000);
  return last || !(await outlookOf(run)).aborted;
}

/** For the schedule that looks at a metric. As `loss` it takes the training loss where there is no other. */
function observe(run: OpenRun, metrics: Evaluation | null, trainLoss: number): void {
  const { schedule } = run.train;
  if (schedule.name !== 'reduce_on_plateau') return;
  if (metrics === null && run.options.data.evalSamples !== null) return;
  const value = figure(metrics, schedule.metric) ?? (schedule.metric === 'loss' ? trainLoss : null);
  if (value !== null) run.session.observe(value);
}
