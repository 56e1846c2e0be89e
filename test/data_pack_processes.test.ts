/** Packing by several processes: killed half-way, waiting for each other, sharing the decoding. */
import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { packSplit, type PackProgress } from '#fornax/data/pack.js';
import { packAddress, packsFolder } from '#fornax/data/pack_cache.js';
import { scanFolder } from '#fornax/data/folder.js';
import { AbortedError, DataError } from '#fornax/errors.js';
import { classFolder, plainFile, put, temporaryFolder } from './support/images.js';
import { contents, options, rgb } from './support/packing.js';
import { syntheticSplit } from './support/synthetic_split.js';

function startChild(cache: string): ChildProcess {
  return fork(fileURLToPath(new URL('./support/pack_child.js', import.meta.url)), [cache]);
}

async function message(child: ChildProcess, text: string): Promise<void> {
  for (;;) {
    const [received] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) =>
        assert.fail(`the process ended (${code}) before it sent '${text}'`),
      ),
    ])) as [string];
    if (received === text) return;
  }
}

test('a process killed half-way leaves no pack; the next one builds it and sweeps up', async () => {
  const cache = temporaryFolder();
  const child = startChild(cache);
  await message(child, 'half-way');
  child.kill('SIGKILL');
  await once(child, 'exit');
  const split = syntheticSplit({ samples: 400 });
  const { folder } = packAddress(cache, split, rgb);
  assert.ok(!existsSync(folder));
  const left = readdirSync(packsFolder(cache));
  assert.equal(left.length, 2, `a lock and a temporary folder, found ${left.join(', ')}`);
  let waited = false;
  const pack = await packSplit(split, rgb, options(cache, { onWait: () => (waited = true) }));
  assert.equal(waited, false, 'the lock of a dead process is taken over at once');
  assert.equal((await contents(pack)).length, 400);
  assert.deepEqual(readdirSync(packsFolder(cache)), [path.basename(folder)]);
});

test('of two processes one packs and the other waits for it', async () => {
  const cache = temporaryFolder();
  const child = startChild(cache);
  await message(child, 'half-way');
  let reads = 0;
  let owner = '';
  const pack = await packSplit(
    syntheticSplit({ samples: 400, onRead: () => void reads++ }),
    rgb,
    options(cache, {
      onWait: (who) => {
        if (owner === '') child.send('go on');
        owner = who;
      },
    }),
  );
  if (child.exitCode === null) await once(child, 'exit');
  assert.equal(child.exitCode, 0);
  assert.equal(reads, 0);
  assert.match(owner, new RegExp(`process ${child.pid} on `));
  assert.equal((await contents(pack)).length, 400);
  assert.deepEqual(readdirSync(packsFolder(cache)), [path.basename(pack.folder)]);
});

test('waiting for another process can be stopped', async () => {
  const cache = temporaryFolder();
  const child = startChild(cache);
  await message(child, 'half-way');
  const stop = new AbortController();
  const waiting = packSplit(
    syntheticSplit({ samples: 400 }),
    rgb,
    options(cache, { signal: stop.signal, onWait: () => stop.abort() }),
  );
  await assert.rejects(waiting, AbortedError);
  child.kill('SIGKILL');
  await once(child, 'exit');
});

test('a process with a larger pool makes the same pack', async () => {
  const root = temporaryFolder();
  await classFolder(root, { a: 6, b: 5 });
  put(root, 'b/bad.jpg', 'text');
  const split = await scanFolder(root);
  const seen: PackProgress[] = [];
  const [here, there] = [temporaryFolder(), temporaryFolder()];
  const own = await packSplit(split, rgb, options(here));
  const other = await packSplit(
    split,
    rgb,
    options(there, { decodeThreads: 6, onProgress: (progress) => seen.push(progress) }),
  );
  assert.equal(other.manifest.key, own.manifest.key);
  assert.deepEqual(other.manifest, own.manifest);
  assert.deepEqual(await contents(other), await contents(own));
  assert.equal(seen.at(-1)!.done, 12);
  assert.deepEqual(readdirSync(packsFolder(there)), [path.basename(other.folder)]);
});

test('errors and cancelling pass between the processes', async () => {
  const root = temporaryFolder();
  // So large that all of them are not decoded before the first one's progress is answered.
  const large = await plainFile(1000, 1500, [1, 2, 3]);
  for (let i = 0; i < 300; i++) put(root, `a/${i}.png`, large);
  const settings = { ...rgb, shorterSide: 8 };
  const stop = new AbortController();
  const cache = temporaryFolder();
  const cancelled = packSplit(
    await scanFolder(root),
    settings,
    options(cache, { decodeThreads: 6, signal: stop.signal, onProgress: () => stop.abort() }),
  );
  await assert.rejects(cancelled, AbortedError);
  assert.deepEqual(readdirSync(packsFolder(cache)), []);
  const bad = put(root, 'a/0.jpg', 'text');
  await assert.rejects(
    packSplit(await scanFolder(root), settings, options(cache, { decodeThreads: 6, onBroken: 'fail' })),
    (error: unknown) => {
      assert.ok(error instanceof DataError);
      assert.equal(error.where, bad);
      assert.match(error.what, /it is text/);
      return true;
    },
  );
});
