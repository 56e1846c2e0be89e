/** Where a job goes on, as its options say. */
import { existsSync } from 'node:fs';

import { ConfigError, TrainError } from '../errors.js';
import type { Checkpoint, CheckpointStore } from './checkpoint.js';
import type { Report } from './events.js';
import type { RunFolder } from './run_folder.js';

/**
 * The checkpoint to go on from; null for a training from the start.
 *
 * @throws ConfigError if the options contradict each other; TrainError if there is no checkpoint where there must be
 *   one, if the one that was chosen does not belong here, or if a run was begun and is neither resumed nor forced.
 */
export async function findCheckpoint(
  store: CheckpointStore,
  folder: RunFolder,
  options: { resume: boolean | 'auto'; force: boolean; resumeFrom: string | undefined },
  report: Report,
): Promise<Checkpoint | null> {
  const { resume, force, resumeFrom } = options;
  if (resumeFrom !== undefined) {
    if (resume !== false || force) {
      throw new ConfigError({
        what: `--resume-from and ${force ? '--force' : '--resume'} contradict each other`,
        fix: 'use one of them',
      });
    }
    const chosen = await store.open(resumeFrom);
    if (!store.owns(chosen) && ((await store.list()).length > 0 || existsSync(folder.paths.model))) {
      throw new TrainError({
        what: 'the checkpoint is of another run, and this run was begun already',
        where: folder.folder,
        fix: 'give the new run a name of its own (--name)',
      });
    }
    return chosen;
  }
  if (resume !== false && force) {
    throw new ConfigError({ what: '--resume and --force contradict each other', fix: 'use one of them' });
  }
  if (force) return null;
  if (resume === false) {
    const [newest] = await store.list();
    if (newest && !existsSync(folder.paths.model)) {
      throw new TrainError({
        what: `this run was begun and not finished: it has a checkpoint at step ${newest.step}`,
        where: folder.folder,
        fix: 'go on with --resume, start over with --force, or use another name (--set name=…)',
      });
    }
    return null;
  }
  const checkpoint = await store.newest((message) => report({ type: 'warning', message }));
  if (!checkpoint && resume === true && !existsSync(folder.paths.model)) {
    throw new TrainError({
      what: 'there is nothing to resume: this run has no checkpoint',
      where: store.folder,
      fix: 'check the name of the run, or use --resume=auto, which starts fresh where there is none',
    });
  }
  return checkpoint;
}
