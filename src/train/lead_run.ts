/** The part of rank 0, or of a process that trains alone: it finds where to begin, trains, logs and writes. */
import type { Config } from '../config/schema.js';
import type { Processes } from '../dist/processes.js';
import { begunBatchSize, chooseBatchSize, decidedBatchSize } from './batch_size.js';
import { CheckpointStore } from './checkpoint.js';
import { decisionsFor, readDecisions, writeDecisions } from './decisions.js';
import type { DoneEvent, Report } from './events.js';
import { existingRun } from './existing_run.js';
import { findCheckpoint } from './find_checkpoint.js';
import { finishRun } from './finish_run.js';
import { announce } from './follow_run.js';
import { outcome, type TrainJobOptions, type TrainOutcome } from './job_types.js';
import { PreparedJob } from './prepared_job.js';
import type { RunFolder } from './run_folder.js';
import { RunLog, type RunLogState } from './run_log.js';
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
  let run: TrainingRun | null = null;
  const log = new RunLog(
    (record) => folder.append(record),
    (step) => run!.learningRate(step),
  );
  // The log of another run stays there.
  const own = checkpoint !== null && store.owns(checkpoint) ? checkpoint : null;
  if (own) log.state = own.state.log_state as RunLogState;
  const reportAll: Report = (event) => {
    log.write(event);
    report(event);
  };
  const decisions =
    resume !== false && !checkpoint ? await readDecisions(folder.paths.decisions, given) : null;
  using job = await PreparedJob.prepare(given, checkpoint, options, reportAll, () =>
    // What is decoded and fetched by now, the others find.
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
    report: reportAll,
    signal,
  });
  run = new TrainingRun({
    model,
    data,
    config,
    loss,
    teacher,
    store,
    report: reportAll,
    signal,
    epochLimit: options.epochLimit,
    processes,
    decisions: decidedBefore,
    logPosition: ({ step, epoch, reason }) => {
      log.checkpoint(step, epoch, reason);
      return { bytes: folder.commitLog(), state: log.state };
    },
    // What an earlier training left is touched only once this one can begin: a mistyped path costs nothing.
    onReady: async (decided) => {
      if (force) await folder.clear();
      const newer = own ? await store.setAsideNewerThan(own) : [];
      folder.openLog(own?.state.log_bytes ?? 0);
      if (newer.length > 0) {
        const message = `Newer checkpoints of this run were set aside: ${newer.join(', ')}`;
        reportAll({ type: 'info', message });
      }
      await folder.writeConfig(config);
      const all = { ...decided, ...decidedBatchSize(given, config) };
      await writeDecisions(folder.paths.decisions, all, { config, model });
    },
    run: { name: config.name, folder: folder.folder },
  });
  const result = await run.run(checkpoint);
  if (result.interrupted) {
    reportAll({ type: 'interrupted', step: result.step, checkpoint: result.checkpoint, signal: null });
    return outcome('interrupted', folder, {
      checkpoint: result.checkpoint,
      epochs: result.epochs,
      steps: result.step,
    });
  }
  const logDone = (event: DoneEvent): void => {
    log.done(event);
    folder.commitLog();
  };
  const finishing = {
    config,
    folder,
    store,
    model,
    data,
    result,
    started,
    logDone,
    report: reportAll,
    signal,
  };
  const metrics = await finishRun(finishing);
  return outcome('done', folder, { metrics, epochs: result.epochs, steps: result.step });
}
