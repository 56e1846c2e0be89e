/** Checkpoints, atomic writes and the lock of a run's folder. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { TrainError } from '#fornax/errors.js';
import { sweepOrphans, temporaryPath, writeFileAtomic, writeFolderAtomically } from '#fornax/io/atomic.js';
import { acquireLock } from '#fornax/io/lock.js';
import { writeSafetensors } from '#fornax/io/safetensors.js';
import { Tensor } from '#fornax/tensor.js';
import { CheckpointStore, type BestRecord, type CheckpointContents } from '#fornax/train/checkpoint.js';
import { RunFolder } from '#fornax/train/run_folder.js';

import { temporaryFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

let folders = 0;
function newStore(keep?: number): CheckpointStore {
  return new CheckpointStore(path.join(root.path, `store${folders++}`), keep === undefined ? {} : { keep });
}

function contents(step: number, best: BestRecord | null = null): CheckpointContents {
  return {
    state: {
      step,
      epoch: Math.floor(step / 10),
      epoch_step: step % 10,
      steps_per_epoch: 10,
      epoch_loss_sum: step / 3,
      epoch_samples: 8 * step,
      epoch_seconds: step / 5,
      best,
      history: [],
      seconds: step / 4,
      config: { train: { lr: 0.1 } },
      computed: { device: 'cpu', amp: 'off', threads: 2 },
      data_fingerprint: 'data',
      graph_hash: 'graph',
      parts: {},
      log_bytes: 0,
      log_state: null,
    },
    saveModel: (file) => writeSafetensors(file, [['w', Tensor.from([step]).native]]),
    optimizer: { 'momentum.w': Tensor.from([step / 2]).native },
    keptSteps: new Set(best === null ? [] : [best.step]),
  };
}

async function names(store: CheckpointStore): Promise<string[]> {
  return (await fs.readdir(store.folder)).sort();
}

async function flipByte(file: string): Promise<void> {
  const bytes = await fs.readFile(file);
  bytes[Math.floor(bytes.length / 2)]! ^= 4;
  await fs.writeFile(file, bytes);
}

test('a checkpoint comes back as it was written', async () => {
  const store = newStore();
  assert.equal(await store.newest(assert.fail), null);
  const written = await store.save(contents(17));
  const checkpoint = (await store.newest(assert.fail))!;
  assert.equal(checkpoint.path, written);
  const { version, created, ...state } = checkpoint.state;
  assert.deepEqual(state, contents(17).state);
  assert.equal(version, 1);
  assert.ok(Date.parse(created) > 0);
  const optimizer = await store.optimizer(checkpoint);
  assert.equal(optimizer['momentum.w']!.item(), 8.5);
});

test('the newest two and the best are kept', async () => {
  const store = newStore();
  const best = { step: 20, epoch: 2, value: 0.9 };
  for (const step of [10, 20, 30, 40, 50]) await store.save(contents(step, step >= 20 ? best : null));
  assert.deepEqual(await names(store), ['step-00000020', 'step-00000040', 'step-00000050']);
  assert.equal((await store.best(best))!.state.step, 20);
  assert.equal(await store.best({ step: 30, epoch: 3, value: 1 }), null);
});

test('the one a run was resumed from stays', async () => {
  const store = newStore();
  await store.save(contents(10));
  await store.newest(assert.fail);
  for (const step of [20, 30, 40]) await store.save(contents(step));
  assert.deepEqual(await names(store), ['step-00000010', 'step-00000030', 'step-00000040']);
});

test('a step can be written twice; the later one counts', async () => {
  const store = newStore();
  await store.save(contents(10));
  await store.save({ ...contents(10), state: { ...contents(10).state, epoch: 7 } });
  assert.equal((await store.newest(assert.fail))!.state.epoch, 7);
});

for (const file of ['model.safetensors', 'optimizer.safetensors', 'state.json']) {
  test(`a damaged ${file} is noticed, and an older checkpoint taken`, async () => {
    const store = newStore();
    await store.save(contents(10));
    const damaged = await store.save(contents(20));
    await flipByte(path.join(damaged, file));
    const warnings: string[] = [];
    const found = await store.newest((message) => warnings.push(message));
    assert.equal(found!.state.step, 10);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /is damaged/);
    await assert.rejects(
      store.load(damaged),
      (error) => error instanceof TrainError && error.where === damaged,
    );
  });

  test(`a missing ${file} is noticed`, async () => {
    const store = newStore();
    const only = await store.save(contents(10));
    await fs.rm(path.join(only, file));
    await assert.rejects(
      store.newest(() => undefined),
      (error) => error instanceof TrainError && /none of the 1 checkpoints is whole/.test(error.message),
    );
  });
}

test('a checkpoint of a newer Fornax is refused by its version', async () => {
  const store = newStore();
  const folder = await store.save(contents(10));
  const file = path.join(folder, 'state.json');
  await fs.writeFile(file, (await fs.readFile(file, 'utf8')).replace('"version":1', '"version":2'));
  await assert.rejects(store.load(folder), /format version 2; this Fornax reads up to 1/);
});

test('a write that fails leaves nothing behind, and what was there before', async () => {
  const store = newStore();
  await store.save(contents(10));
  await assert.rejects(
    store.save({
      ...contents(20),
      saveModel: async (file) => {
        await fs.writeFile(file, 'half');
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
      },
    }),
    /the disk is full/,
  );
  assert.deepEqual(await names(store), ['step-00000010']);
});

test('what an interrupted writer left is swept, what a living one writes is not', async () => {
  const folder = path.join(root.path, 'orphans');
  await fs.mkdir(folder);
  const mine = temporaryPath(path.join(folder, 'model.safetensors'));
  await fs.writeFile(mine, '');
  const dead = spawnSync(process.execPath, ['-e', 'process.stdout.write(String(process.pid))'], {
    encoding: 'utf8',
  });
  const orphan = mine.replace(`-${process.pid}-`, `-${dead.stdout}-`);
  await fs.mkdir(orphan);
  await fs.writeFile(path.join(orphan, 'half'), '');
  await fs.writeFile(path.join(folder, 'model.safetensors'), '');
  assert.deepEqual(await sweepOrphans(folder), [path.basename(orphan)]);
  assert.deepEqual((await fs.readdir(folder)).sort(), [path.basename(mine), 'model.safetensors'].sort());
  assert.deepEqual(await sweepOrphans(folder, { all: true }), [path.basename(mine)]);
  assert.deepEqual(await sweepOrphans(path.join(folder, 'nowhere')), []);
});

test('files and folders appear whole or not at all', async () => {
  const folder = path.join(root.path, 'atomic');
  const file = path.join(folder, 'deep', 'a.txt');
  await writeFileAtomic(file, 'one');
  await writeFileAtomic(file, 'two');
  assert.equal(await fs.readFile(file, 'utf8'), 'two');
  const target = path.join(folder, 'whole');
  await assert.rejects(
    writeFolderAtomically(target, async (temporary) => {
      await fs.writeFile(path.join(temporary, 'x'), 'x');
      throw new Error('interrupted');
    }),
    /interrupted/,
  );
  assert.deepEqual(await fs.readdir(folder), ['deep']);
});

test('a lock is held by one, released, and taken over from the dead', async () => {
  const file = path.join(root.path, 'lock', '.lock');
  const first = await acquireLock(file);
  assert.ok('release' in first);
  const second = await acquireLock(file);
  assert.deepEqual(second, { heldBy: `process ${process.pid} on ${(await import('node:os')).hostname()}` });
  await first.release();
  const third = await acquireLock(file);
  assert.ok('release' in third);
  await first.release();
  assert.ok('heldBy' in (await acquireLock(file)), 'an old holder cannot release the new lock');
  await third.release();

  // A process that dies holding it, and one whose pid has been given to another process since.
  const script = `import { acquireLock } from '#fornax/io/lock.js'; await acquireLock(${JSON.stringify(file)}); process.exit()`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: new URL('.', import.meta.url),
    encoding: 'utf8',
  });
  assert.equal(child.status, 0, child.stderr);
  const taken = await acquireLock(file);
  assert.ok('release' in taken);
  const owner = JSON.parse(await fs.readFile(file, 'utf8')) as { pid: number; start: string };
  await fs.writeFile(file, JSON.stringify({ ...owner, pid: process.pid, start: '1', token: 'other' }));
  assert.ok('release' in (await acquireLock(file)));
});

test('the event log is cut back to what a checkpoint covers', async () => {
  const folder = await RunFolder.open(path.join(root.path, 'run'));
  assert.equal(folder.openLog(0), 0);
  folder.append({ type: 'info', message: 'one' });
  const covered = folder.commitLog();
  folder.append({ type: 'info', message: 'lost' });
  await folder.close();

  const again = await RunFolder.open(path.join(root.path, 'run'));
  assert.equal(again.openLog(covered), Buffer.byteLength('{"type":"info","message":"lost"}\n'));
  again.append({ type: 'info', message: 'two' });
  await again.close();
  assert.equal(
    await fs.readFile(path.join(root.path, 'run', 'events.jsonl'), 'utf8'),
    '{"type":"info","message":"one"}\n{"type":"info","message":"two"}\n',
  );
  const third = await RunFolder.open(path.join(root.path, 'run'));
  assert.throws(() => third.openLog(10_000), TrainError);
  await third.close();
});

test('books that no resume could read are not committed', async () => {
  const store = newStore();
  await store.save(contents(1));
  const spoilt = contents(2);
  spoilt.state.epoch_loss_sum = NaN;
  await assert.rejects(
    store.save(spoilt),
    (error) => error instanceof TrainError && /epoch_loss_sum/.test(error.message),
  );
  assert.deepEqual(await names(store), ['step-00000001']);
  // A figure that was never finite is one that is not there.
  const diverged = contents(3);
  diverged.state.history = [{ epoch: 1, step: 3, loss: NaN, lr: 0.1, evaluation: null }];
  await store.save(diverged);
  assert.ok(Number.isNaN((await store.newest(assert.fail))!.state.history[0]!.loss));
});

test('the newest regular checkpoint stays, however many others follow', async () => {
  const store = newStore();
  for (const [step, regular] of [
    [1, true],
    [2, true],
    [3, false],
    [4, false],
    [5, false],
  ] as const) {
    const each = contents(step);
    await store.save({ ...each, state: { ...each.state, regular } });
  }
  assert.deepEqual(await names(store), ['step-00000002', 'step-00000004', 'step-00000005']);
});
