/** What rank 0 tells the other processes before training, and what those do. */
import type { Config } from '../config/schema.js';
import type { Processes } from '../dist/processes.js';
import { CheckpointStore } from './checkpoint.js';
import { decisionsFor, type Decisions } from './decisions.js';
import type { Report } from './events.js';
import { outcome, type TrainJobOptions, type TrainOutcome } from './job_types.js';
import { PreparedJob } from './prepared_job.js';
import { runPaths } from './run_folder.js';
import { TrainingRun } from './training_run.js';

/** What rank 0 found out before training; the others wait for it. */
export interface Announcement {
  skipped: boolean;
  /** To go on from. */
  checkpoint: string | null;
  /** Of an earlier beginning of this run. */
  decisions: Decisions | null;
}

export function announce(processes: Processes, announcement: Announcement | null): Promise<Announcement> {
  return processes.lead(() => announcement!);
}

/** The part of a rank other than 0: it computes its share and writes nothing. */
export async function followRun(
  config: Config,
  folder: string,
  processes: Processes,
  options: TrainJobOptions,
): Promise<TrainOutcome> {
  const { signal } = options;
  // Each rank has a device of its own; all other events would only repeat what rank 0 reports.
  const report: Report = (event) => {
    if (event.type === 'device') options.report?.(event);
  };
  const place = { folder, paths: runPaths(folder) };
  const { skipped, checkpoint: from, decisions } = await announce(processes, null);
  if (skipped) return outcome('skipped', place, {});
  const store = new CheckpointStore(place.paths.checkpoints);
  const checkpoint = from === null ? null : await store.open(from);
  using job = await PreparedJob.prepare(config, checkpoint, options, report);
  const { model, data, teacher, loss } = job;
  const run = new TrainingRun({
    model,
    data,
    config,
    loss,
    teacher,
    store,
    report,
    signal,
    epochLimit: options.epochLimit,
    processes,
    decisions: decisionsFor(decisions, model),
  });
  const result = await run.run(checkpoint);
  const { epochs, step: steps } = result;
  return outcome(result.interrupted ? 'interrupted' : 'done', place, { epochs, steps });
}
