/** The comparison of event logs that the tests of resumed runs rest on must itself be able to fail. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { temporaryFolder } from './support/image_folder.js';
import { logRecords } from './support/same_run.js';

type Line = Record<string, unknown>;

const BEFORE: Line[] = [
  { type: 'device', phase: 'train' },
  { type: 'start', folder: '/runs/a', first_step: 0 },
  { type: 'epoch', epoch: 1 },
  { type: 'checkpoint', step: 10 },
];
const RESUMED: Line[] = [
  { type: 'device', phase: 'train' },
  { type: 'resumed', step: 10 },
  { type: 'start', folder: '/runs/a', first_step: 10 },
];
const AFTER: Line[] = [
  { type: 'epoch', epoch: 2 },
  { type: 'checkpoint', step: 20 },
];

async function recordsOf(folder: string, lines: readonly Line[]): Promise<Line[]> {
  const text = lines.map((line) => `${JSON.stringify({ ...line, time: Math.random() })}\n`).join('');
  await fs.writeFile(path.join(folder, 'events.jsonl'), text);
  return logRecords(folder);
}

test('the log of a resumed run is that of one that was not interrupted', async () => {
  await using folder = await temporaryFolder();
  const straight = await recordsOf(folder.path, [...BEFORE, ...AFTER]);
  assert.deepEqual(await recordsOf(folder.path, [...BEFORE, ...RESUMED, ...AFTER]), straight);
  assert.equal(straight.length, 6);
});

test('a log that was not cut back to the checkpoint is told', async () => {
  await using folder = await temporaryFolder();
  for (const type of ['steps', 'epoch', 'evaluation', 'scalars', 'checkpoint', 'out_of_memory', 'done']) {
    const log = [...BEFORE, { type, step: 13 }, ...RESUMED, ...AFTER];
    await assert.rejects(recordsOf(folder.path, log), assert.AssertionError, type);
  }
  // Killed while it was opened for the second time.
  const twice = [...BEFORE, ...RESUMED.slice(0, 2), ...RESUMED, ...AFTER];
  await assert.rejects(recordsOf(folder.path, twice), assert.AssertionError);
});
