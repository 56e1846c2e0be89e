/** What `fornax train` does, once the config and the addon may be loaded. */
import path from 'node:path';

import { loadConfig } from '../config/load.js';
import type { Config } from '../config/schema.js';
import { launch } from '../dist/launch.js';
import { followLauncher, tellLauncher } from '../dist/launched.js';
import { findPlace, shareCores } from '../dist/place.js';
import { UsageError } from '../errors.js';
import { trainJob } from '../train/job.js';
import { dryRun, overfitCheck } from '../train/trial.js';
import { runLongJob } from './long_job.js';
import { EXIT, printError } from './print_error.js';
import { overridesOf, type TrainFlags } from './train.js';

/** @returns the exit code */
export async function runTrain(files: string[], flags: TrainFlags): Promise<number> {
  const place = findPlace();
  const processes = place?.world ?? flags.nproc ?? 1;
  const config = loadConfig({ files, sets: flags.set ?? [], overrides: overridesOf(flags), processes });
  const trial = flags.dryRun === true || flags.overfit !== undefined;
  if (trial && (flags.resume !== undefined || flags.resumeFrom !== undefined || flags.force === true)) {
    throw new UsageError({
      what: 'a trial (--dry-run, --overfit) touches no run: --resume, --resume-from and --force have no meaning',
    });
  }
  if (trial && processes > 1) {
    throw new UsageError({
      what: 'a trial (--dry-run, --overfit) runs in one process',
      fix: 'leave --nproc out',
    });
  }
  if (!place && processes > 1) return launchRun(config, processes, flags);
  shareCores(place);
  followLauncher();
  const options = { json: flags.json ?? false, whatNow: 'finishing the step and writing a checkpoint' };
  const resume = flags.resume === 'auto' ? 'auto' : flags.resume === 'required';
  let interrupted = false;
  // Of the others, those that have a log of their own may say something.
  const silent = place !== null && place.rank > 0 && process.env['FORNAX_LAUNCHED'] === undefined;
  await runLongJob(options, async ({ report, signal }) => {
    if (flags.dryRun) await dryRun(config, { report, signal });
    if (flags.overfit !== undefined) await overfitCheck(config, flags.overfit, { report, signal });
    if (trial) return;
    try {
      const outcome = await trainJob(config, {
        ...(silent ? {} : { report }),
        signal,
        resume,
        resumeFrom: flags.resumeFrom,
        force: flags.force ?? false,
        place,
      });
      ({ interrupted } = outcome);
    } catch (error) {
      await tellLauncher(error);
      throw error;
    }
  });
  // The signal may have reached another of the processes.
  return Number(process.exitCode ?? 0) || (interrupted ? EXIT.terminated : EXIT.done);
}

async function launchRun(config: Config, processes: number, flags: TrainFlags): Promise<number> {
  const { exitCode, error } = await launch({ processes, folder: path.resolve(config.run.dir, config.name) });
  if (error) printError(error, { json: flags.json ?? false });
  return exitCode;
}
