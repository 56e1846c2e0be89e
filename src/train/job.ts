/** The main job: from a configuration to a run folder with a trained model. */
import path from 'node:path';

import { parseDuration } from '../config/duration.js';
import type { Config } from '../config/schema.js';
import { Processes } from '../dist/processes.js';
import { AbortedError } from '../errors.js';
import { CheckpointStore } from './checkpoint.js';
import { eventRecord, type JobEvent } from './events.js';
import { followRun } from './follow_run.js';
import { requireBatchSize, requireClassifier, requireOwnDevice } from './job_checks.js';
import { outcome, type TrainJobOptions, type TrainOutcome } from './job_types.js';
import { leadRun } from './lead_run.js';
import { chooseDevices } from './run_devices.js';
import { RunFolder, runPaths } from './run_folder.js';

export type { TrainJobOptions, TrainOutcome } from './job_types.js';

/**
 * Prepares the data, builds the model, trains, evaluates and writes `<run.dir>/<name>/`. Only an interruption by
 * `signal` is an outcome; everything else that goes wrong is thrown.
 *
 * @throws ConfigError, DataError, DeviceError, WeightsError before training; TrainError if the run cannot be
 *   resumed or training diverges.
 */
export async function trainJob(config: Config, options: TrainJobOptions = {}): Promise<TrainOutcome> {
  const report = options.report ?? (() => undefined);
  // What can be wrong without a look at the data is said before hours of decoding.
  requireClassifier(config);
  const place = options.place ?? null;
  if (place) requireOwnDevice(config, place);
  if (place) requireBatchSize(config, place);
  const devices = chooseDevices(config, place?.localRank);
  const timeout = parseDuration(config.dist.timeout)!;
  const name = path.join(config.run.dir, config.name);
  if (place && place.rank > 0) {
    using processes = await Processes.connect(place, devices.train.device, timeout);
    const followed = path.resolve(name);
    try {
      return await followRun(config, followed, processes, options);
    } catch (error) {
      if (!(error instanceof AbortedError) || !options.signal?.aborted) throw error;
      return outcome('interrupted', { folder: followed, paths: runPaths(followed) }, {});
    }
  }

  const folder = await RunFolder.open(name);
  try {
    using processes = await Processes.connect(place, devices.train.device, timeout);
    return await leadRun(config, folder, processes, options, report);
  } catch (error) {
    if (!(error instanceof AbortedError) || !options.signal?.aborted) throw error;
    // Stopped while images were decoded, or in the final evaluation.
    const store = new CheckpointStore(folder.paths.checkpoints);
    // With `force`, checkpoints are those of the earlier training until this one has begun.
    const [newest] = options.force && !folder.begun ? [] : await store.list();
    const step = newest?.step ?? 0;
    const checkpoint = newest?.path ?? null;
    const event: JobEvent = { type: 'interrupted', step, checkpoint, signal: null };
    folder.append(eventRecord(event));
    report(event);
    return outcome('interrupted', folder, { checkpoint, steps: step });
  } finally {
    await folder.close();
  }
}
