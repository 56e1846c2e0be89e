/** Whether two runs computed and wrote the very same, whatever interrupted one of them. */
import assert from 'node:assert/strict';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';

import { readModelHeader } from '#fornax/model/file.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';

import { weightsOf } from './run_results.js';

type Json = Record<string, unknown>;

/** What is measured: by a clock, or of the process's memory. */
const MEASURED = [
  ...['time', 'created', 'seconds', 'epoch_seconds', 'samples_per_second'],
  ...['activations', 'workspace', 'peak_memory'],
];

/** Without these keys, at any depth. */
function without(value: unknown, keys: readonly string[]): unknown {
  if (Array.isArray(value)) return value.map((item) => without(item, keys));
  if (typeof value !== 'object' || value === null) return value;
  const rest = Object.entries(value).filter(([key]) => !keys.includes(key));
  return Object.fromEntries(rest.map(([key, item]) => [key, without(item, keys)]));
}

/** What a part of a run may say before its first step. */
const OPENING = [
  ...['info', 'warning', 'device', 'data_progress', 'precision', 'batch_size', 'memory', 'resumed', 'start'],
];

/**
 * All records of the event log, in order. What a resumed part says before its first step stands right behind the
 * record of the checkpoint it went on from, and ends with its `start`: those marks are left out.
 *
 * @throws AssertionError where anything else stands there: the log was not cut back to the checkpoint.
 */
export async function logRecords(folder: string): Promise<Json[]> {
  const text = await fs.readFile(path.join(folder, 'events.jsonl'), 'utf8');
  // It may have been copied.
  const written = /"type":"start".*?"folder":"(.*?)"/.exec(text)?.[1] ?? folder;
  const records: Json[] = [];
  for (const line of text.replaceAll(written, '<run>').trimEnd().split('\n')) {
    const record = without(JSON.parse(line), MEASURED) as Json;
    // Its figures once more, in words.
    if (record.type === 'memory') delete record.message;
    records.push(record);
    if (record.type !== 'start' || record.first_step === 0) continue;
    const from = records.findLastIndex(({ type }) => type === 'checkpoint');
    assert.equal(records[from]?.step, record.first_step, 'the log goes on elsewhere than the run');
    const types = records.splice(from + 1).map(({ type }) => type as string);
    const left = types.filter((type) => !OPENING.includes(type));
    assert.deepEqual(left, [], 'records behind the checkpoint were not cut off');
    assert.equal(types.filter((type) => type === 'resumed').length, 1, 'a part of the run resumes once');
  }
  return records;
}

async function checkpointNames(folder: string): Promise<string[]> {
  const list = await new CheckpointStore(path.join(folder, 'checkpoints')).list();
  return list.map((entry) => path.basename(entry.path));
}

/** A checkpoint's books. Times, and how many bytes they took in the log, differ from run to run. */
async function stateOf(checkpoint: string): Promise<unknown> {
  const { state } = JSON.parse(await fs.readFile(path.join(checkpoint, 'state.json'), 'utf8')) as {
    state: Json & { config: { data: unknown; run: unknown } };
  };
  const { config } = state;
  return without({ ...state, config: { ...config, data: without(config.data, ['workers']), run: null } }, [
    ...MEASURED,
    'log_bytes',
  ]);
}

/**
 * Compares everything that two finished runs of the same name left: model file with its figures, every checkpoint
 * with weights, optimizer, averages, scaler, generators and books, the event log and the summary.
 *
 * @throws AssertionError
 */
export async function assertSameRun(folder: string, expected: string): Promise<void> {
  const both = async <T>(of: (folder: string) => Promise<T>, what: string): Promise<void> =>
    assert.deepEqual(await of(folder), await of(expected), what);
  await both((run) => weightsOf(path.join(run, 'model.safetensors')), 'weights of the model file');
  await both(
    async (run) => (await readModelHeader(path.join(run, 'model.safetensors'))).info.metrics,
    'metrics',
  );
  await both(logRecords, 'event log');
  await both(async (run) => {
    const text = await fs.readFile(path.join(run, 'summary.json'), 'utf8');
    return without(JSON.parse(text), [...MEASURED, 'model_path']);
  }, 'summary');

  const names = await checkpointNames(expected);
  const kept = await checkpointNames(folder);
  const gone = names.filter((name) => !kept.includes(name));
  assert.deepEqual(gone, [], 'checkpoints are missing');
  // The one that the last part went on from stays.
  assert.ok(kept.length <= names.length + 1, `too many checkpoints: ${kept.join(', ')}`);
  for (const name of names) {
    for (const file of ['model.safetensors', 'optimizer.safetensors']) {
      await both((run) => weightsOf(path.join(run, 'checkpoints', name, file)), `${name}/${file}`);
    }
    await both((run) => stateOf(path.join(run, 'checkpoints', name)), `${name}/state.json`);
  }
  const left = (await fs.readdir(folder, { recursive: true })).filter((entry) => entry.includes('.tmp-'));
  assert.deepEqual(left, [], 'orphans were left');
  assert.ok(!existsSync(path.join(folder, '.lock')), 'the lock was left');
}
