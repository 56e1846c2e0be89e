/**
 * Trains again and again in one process while the file system fails at its n-th write (faults.c is preloaded), and
 * checks each time that the error is a typed one, that a resume repairs everything and that the result is the very
 * same. Its argument is JSON: { config, stride }. Prints one JSON object.
 */
import assert from 'node:assert/strict';
import { openSync, promises as fs, readdirSync } from 'node:fs';
import path from 'node:path';

import type { Config } from '#fornax/config/schema.js';
import { FornaxError } from '#fornax/errors.js';
import { trainJob } from '#fornax/train/job.js';

import { logOf, weightsOf } from './run_results.js';

const { config, stride } = JSON.parse(process.argv[2]!) as { config: Config; stride: number };
const folder = path.join(config.run.dir, config.name);

/** @returns the code of the answer */
function fault(command: string): string {
  try {
    openSync(`/__fault__/${command}`, 'r');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code!;
  }
  throw new Error('faults.c is not preloaded');
}

async function results(): Promise<unknown> {
  const [last] = readdirSync(path.join(folder, 'checkpoints')).sort().reverse();
  return {
    model: await weightsOf(path.join(folder, 'model.safetensors')),
    optimizer: await weightsOf(path.join(folder, 'checkpoints', last!, 'optimizer.safetensors')),
    steps: await logOf(folder),
  };
}

/** Temporary files that nobody will ever use. */
function orphans(): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.includes('.tmp-'));
}

await trainJob(config);
const expected = await results();
const struck: Record<string, number> = {};
const errors = new Set<string>();
for (const mode of ['full', 'readonly', 'once']) {
  struck[mode] = 0;
  for (let n = 1; ; n += stride) {
    await fs.rm(folder, { recursive: true, force: true });
    fault(`${mode}/${n}`);
    let failure: unknown = null;
    try {
      await trainJob(config);
    } catch (error) {
      failure = error;
    }
    const fired = fault('fired') === 'EEXIST';
    fault('off');
    if (!fired) {
      assert.equal(failure, null);
      break;
    }
    struck[mode]++;
    if (failure !== null) {
      assert.ok(failure instanceof FornaxError, `${mode} ${n}: ${String((failure as Error).stack)}`);
      errors.add(failure.what);
    }
    const outcome = await trainJob(config, { resume: 'auto' });
    assert.notEqual(outcome.status, 'interrupted');
    assert.deepEqual(await results(), expected, `${mode} at operation ${n}`);
    assert.deepEqual(orphans(), []);
  }
}
process.stdout.write(JSON.stringify({ struck, errors: [...errors] }));
