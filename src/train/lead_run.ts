/** The part of rank 0, or of a process that trains alone: it finds where to begin, trains, logs and writes. */
import type { Config } from '../config/schema.js';
import type { Processes } from '../dist/processes.js';
import { begunBatchSize, chooseBatchSize } from './batch_size.js';
import { CheckpointStore } from './checkpoint.js';
import { decisionsFor, readDecisions } from './decisions.js';
import type { Report } from './events.js';
import { existingRun } from './existing_run.js';
import { findCheckpoint } from './find_checkpoint.js';
import { finishRun } from './finish_run.js';
import { announce } from './follow_run.js';
import { outcome, type TrainJobOptions, type TrainOutcome } from './job_types.js';
import { holdBudget } from './memory.js';
import { PreparedJob } from './prepared_job.js';
import { isExtended } from './resume.js';
import type { RunFolder } from './run_folder.js';
import { RunRecord } from './run_record.js';
import { TrainingRun } from './training_run.js';

export async function leadRun(
  given: Config,
  folder: RunFolder,
  processes: Processes,
  options: TrainJobOptions,
  report: Report,
): Promise<TrainOutcome> {
  const { resume = false, force = false, resumeFrom, signal } = options;
  const store = new CheckpointStore(folder.paths.checkpoints, { keep: given.checkpoint.keep });
  await store.sweep();
  const checkpoint = await findCheckpoint(store, folder, { resume, force, resumeFrom }, report);
  if (!force) {
    const resuming = resume !== false || resumeFrom !== undefined;
    const existing = await existingRun(given, folder, checkpoint, resuming);
    if (existing) {
      report({ type: 'skipped', message: existing.message, modelPath: folder.paths.model });
      await announce(processes, { skipped: true, checkpoint: null, decisions: null });
      return outcome('skipped', folder, { metrics: existing.metrics });
    }
  }

  const started = performance.now();
  const record = new RunRecord(folder, store, checkpoint, report);
  const decisions =
    resume !== false && (!checkpoint || isExtended(checkpoint, given))
      ? await readDecisions(folder.paths.decisions, given)
      : null;
  using job = await PreparedJob.prepare(given, checkpoint, options, record.report, () =>
    // Only now, so that the others find the images decoded and the weights fetched.
    announce(processes, { skipped: false, checkpoint: checkpoint?.path ?? null, decisions }),
  );
  const { model, data, teacher, loss } = job;
  const decidedBefore = decisionsFor(decisions, model);
  const begun = begunBatchSize(checkpoint?.state.config, decidedBefore);
  const config = await chooseBatchSize(given, {
    model,
    data,
    teacher,
    loss,
    begun,
    report: record.report,
    signal,
  });
  using _budget = holdBudget(config);
  const run = new TrainingRun({
    model,
    data,
    config,
    loss,
    teacher,
    store,
    report: record.report,
    signal,
    epochLimit: options.epochLimit,
    processes,
    decisions: decidedBefore,
    logPosition: record.logPosition,
    onReady: async (decided) => {
      if (force) await folder.clear();
      await record.begin({ given, config, model }, decided);
    },
    run: { name: config.name, folder: folder.folder },
  });
  record.follow(run);
  const result = await run.run(checkpoint);
  if (result.interrupted) {
    record.report({ type: 'interrupted', step: result.step, checkpoint: result.checkpoint, signal: null });
    return outcome('interrupted', folder, {
      checkpoint: result.checkpoint,
      epochs: result.epochs,
      steps: result.step,
    });
  }
  const finishing = {
    config,
    folder,
    store,
    model,
    data,
    result,
    started,
    logDone: record.done,
    report: record.report,
    signal,
  };
  const metrics = await finishRun(finishing);
  return outcome('done', folder, { metrics, epochs: result.epochs, steps: result.step });
}
