/** What is wrong with a path that should be a checkpoint, and which checkpoints there are near it. */
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';

import { TrainError } from '../errors.js';

/** Names of the checkpoints in a folder, newest first; none if it is not there. */
async function namesIn(folder: string): Promise<string[]> {
  const names = await fs.readdir(folder).catch(() => []);
  return names
    .filter((name) => /^step-\d+(-\d+)?$/.test(name))
    .sort()
    .reverse();
}

/** @param given an absolute path without the state of a checkpoint. */
export async function noCheckpoint(given: string): Promise<TrainError> {
  const inRun = path.join(given, 'checkpoints');
  const isRun = existsSync(inRun);
  const folder = isRun ? inRun : path.basename(given) === 'checkpoints' ? given : path.dirname(given);
  const names = await namesIn(folder);
  const what = isRun
    ? 'this is the folder of a run, not of a checkpoint'
    : existsSync(given)
      ? 'this is not the folder of a checkpoint'
      : 'there is no such checkpoint';
  const more = names.length > 3 ? `, … (${names.length} in all)` : '';
  const fix =
    names.length > 0
      ? `in ${folder} there are ${names.slice(0, 3).join(', ')}${more}`
      : 'name a folder such as runs/<name>/checkpoints/step-00001000';
  return new TrainError({ what, where: given, fix });
}
