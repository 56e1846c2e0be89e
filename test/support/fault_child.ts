/**
 * Trains again and again in one process while the file system fails at its n-th write (faults.c is preloaded), from
 * the start and from a checkpoint, and checks each time that the error is a typed one, that a resume repairs
 * everything and that all that is left is the very same as without faults. Its argument is a FaultJob as JSON. Prints
 * one JSON object.
 */
import assert from 'node:assert/strict';
import { cpSync, openSync, promises as fs, readdirSync } from 'node:fs';
import path from 'node:path';

import type { Config } from '#fornax/config/schema.js';
import { FornaxError } from '#fornax/errors.js';
import { trainJob } from '#fornax/train/job.js';
import { RUN_FEATURES, type RunFeature } from '#fornax/train/run_features.js';

import { assertSameRun } from './same_run.js';

export interface FaultJob {
  config: Config;
  /** The n-th writes that fail: every `stride`-th from the `first` on. */
  first: number;
  stride: number;
}

export interface FaultResult {
  /** Faults by kind and by where the run began. */
  struck: Record<string, number>;
  /** What the errors said. */
  errors: string[];
}

const { config, first, stride } = JSON.parse(process.argv[2]!) as FaultJob;
const folder = path.join(config.run.dir, config.name);
/** As it is without faults, and as it was when a checkpoint in the middle of it had been written. */
const [expected, halfway] = ['expected', 'halfway'].map((name) =>
  path.join(`${config.run.dir}-${name}`, config.name),
);
const HALFWAY_STEP = 3;

// Something was settled by timing: its file is written before the first step.
const decided: RunFeature = {
  prepare: ({ state }) => {
    let verdict = { fastest: 7 };
    state.register({
      key: 'verdict',
      decided: true,
      save: () => verdict,
      restore: (saved) => (verdict = saved as typeof verdict),
    });
  },
};
(RUN_FEATURES as RunFeature[]).push(decided);

/** @returns the code of the answer */
function fault(command: string): string {
  try {
    openSync(`/__fault__/${command}`, 'r');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code!;
  }
  throw new Error('faults.c is not preloaded');
}

const struck: Record<string, number> = {};
const errors = new Set<string>();

/** @returns whether the fault was met at all. */
async function trainWithFault(from: 'start' | 'halfway', mode: string, n: number): Promise<boolean> {
  await fs.rm(folder, { recursive: true, force: true });
  if (from === 'halfway') await fs.cp(halfway!, folder, { recursive: true });
  fault(`${mode}/${n}`);
  let failure: unknown = null;
  try {
    await trainJob(config, from === 'halfway' ? { resume: true } : {});
  } catch (error) {
    failure = error;
  }
  const fired = fault('fired') === 'EEXIST';
  fault('off');
  const where = `${mode} at operation ${n} from the ${from}`;
  if (!fired) {
    assert.equal(failure, null, where);
    return false;
  }
  if (failure !== null) {
    assert.ok(failure instanceof FornaxError, `${where}: ${String((failure as Error).stack)}`);
    errors.add(failure.what);
  }
  const outcome = await trainJob(config, { resume: 'auto' });
  assert.notEqual(outcome.status, 'interrupted');
  try {
    await assertSameRun(folder, expected!);
  } catch (error) {
    throw new Error(where, { cause: error });
  }
  return true;
}

await trainJob(config, {
  report: (event) => {
    if (event.type !== 'checkpoint' || event.step !== HALFWAY_STEP) return;
    cpSync(folder, halfway!, { recursive: true, filter: (file) => !/\.lock$|\.tmp-/.test(file) });
  },
});
await fs.cp(folder, expected!, { recursive: true });
assert.ok(readdirSync(halfway!).includes('decisions.json'));
for (const from of ['start', 'halfway'] as const) {
  for (const mode of ['full', 'readonly', 'once']) {
    const key = `${mode} from the ${from}`;
    struck[key] = 0;
    for (let n = first; await trainWithFault(from, mode, n); n += stride) struck[key]++;
  }
}
process.stdout.write(JSON.stringify({ struck, errors: [...errors] } satisfies FaultResult));
