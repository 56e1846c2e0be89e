/** What `fornax train` does, once the config and the addon may be loaded. */
import { loadConfig } from '../config/load.js';
import { UsageError } from '../errors.js';
import { trainJob } from '../train/job.js';
import { dryRun, overfitCheck } from '../train/trial.js';
import { runLongJob } from './long_job.js';
import { overridesOf, type TrainFlags } from './train.js';

/** @returns the exit code */
export async function runTrain(files: string[], flags: TrainFlags): Promise<number> {
  const config = loadConfig({ files, sets: flags.set ?? [], overrides: overridesOf(flags) });
  const options = { json: flags.json ?? false, whatNow: 'finishing the step and writing a checkpoint' };
  const trial = flags.dryRun === true || flags.overfit !== undefined;
  if (trial && (flags.resume !== undefined || flags.resumeFrom !== undefined || flags.force === true)) {
    throw new UsageError({
      what: 'a trial (--dry-run, --overfit) touches no run: --resume, --resume-from and --force have no meaning',
    });
  }
  const resume = flags.resume === 'auto' ? 'auto' : flags.resume === 'required';
  await runLongJob(options, async ({ report, signal }) => {
    if (flags.dryRun) await dryRun(config, { report, signal });
    if (flags.overfit !== undefined) await overfitCheck(config, flags.overfit, { report, signal });
    if (trial) return;
    await trainJob(config, {
      report,
      signal,
      resume,
      resumeFrom: flags.resumeFrom,
      force: flags.force ?? false,
    });
  });
  return Number(process.exitCode ?? 0);
}
