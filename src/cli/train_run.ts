/** What `fornax train` does, once the config and the addon may be loaded. */
import { loadConfig } from '../config/load.js';
import { trainJob } from '../train/job.js';
import { runLongJob } from './long_job.js';
import { overridesOf, type TrainFlags } from './train.js';

/** @returns the exit code */
export async function runTrain(files: string[], flags: TrainFlags): Promise<number> {
  const config = loadConfig({ files, sets: flags.set ?? [], overrides: overridesOf(flags) });
  const options = { json: flags.json ?? false, whatNow: 'finishing the step and writing a checkpoint' };
  const resume = flags.resume === 'auto' ? 'auto' : flags.resume === 'required';
  await runLongJob(options, ({ report, signal }) =>
    trainJob(config, {
      report,
      signal,
      resume,
      resumeFrom: flags.resumeFrom,
      force: flags.force ?? false,
    }),
  );
  return Number(process.exitCode ?? 0);
}
