/** What `--nproc` does with the processes it started: here small scripts in their place. */
import assert from 'node:assert/strict';
import { existsSync, promises as fs } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { launch, rankLog, type LaunchOptions, type LaunchResult } from '#fornax/dist/launch.js';
import { noteOf } from '#fornax/dist/launched.js';
import { Processes } from '#fornax/dist/processes.js';

import { temporaryFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

/** Each rank runs its script; `done(name)` leaves a file behind that tells the test how far it came. */
async function run(
  name: string,
  scripts: readonly string[],
  options: Partial<LaunchOptions> = {},
): Promise<{ result: LaunchResult; has: (file: string) => boolean }> {
  const folder = path.join(root.path, name);
  await fs.mkdir(folder);
  const script = `
    const fs = require('node:fs'), path = require('node:path');
    const done = (name) => fs.writeFileSync(path.join(${JSON.stringify(folder)}, name), '');
    const has = (name) => fs.existsSync(path.join(${JSON.stringify(folder)}, name));
    const until = async (...names) => { while (!names.every(has)) await new Promise((r) => setTimeout(r, 10)); };
    const sleep = (ms) => new Promise((r) => setTimeout(r, ms));
    const scripts = [${scripts.map((text) => `async () => { ${text} }`).join(',')}];
    scripts[Number(process.env.RANK)]();`;
  const has = (file: string): boolean => existsSync(path.join(folder, file));
  const args = ['-e', script];
  const result = await launch({ processes: scripts.length, folder, args, graceMs: 300, ...options });
  return { result, has };
}

async function signalOnce(name: string, files: readonly string[], signal: NodeJS.Signals): Promise<void> {
  const folder = path.join(root.path, name);
  while (!files.every((file) => existsSync(path.join(folder, file)))) await sleep(10);
  // What a signal to this process does.
  process.emit(signal, signal);
}

test('after a signal rank 0 has the time it needs, although the others have ended', async () => {
  const [{ result, has }] = await Promise.all([
    run('signal', [
      `process.on('SIGTERM', async () => { await until('left'); await sleep(900); done('saved'); process.exit(143); });
       done('ready'); await sleep(60_000);`,
      `process.on('SIGTERM', () => { done('left'); process.exit(143); }); done('ready1'); await sleep(60_000);`,
    ]),
    signalOnce('signal', ['ready', 'ready1'], 'SIGTERM'),
  ]);
  assert.ok(has('saved'), 'rank 0 was killed');
  assert.deepEqual(result, { exitCode: 143, error: null });
});

test('after an error the others have a moment, but who writes a checkpoint is waited for', async () => {
  const fails = `await until('ready'); process.exit(1);`;
  const writes = await run('writes', [
    `process.send('writing'); done('ready'); await sleep(900); done('saved'); process.send('written');
     await sleep(60_000);`,
    fails,
    `await sleep(60_000);`,
  ]);
  assert.ok(writes.has('saved'), 'killed in the middle of it');
  assert.equal(writes.result.exitCode, 1);
  assert.match(writes.result.error!.what, /rank 1 ended with exit code 1/);
  assert.equal(writes.result.error!.where, rankLog(path.join(root.path, 'writes'), 1));

  const hangs = await run('hangs', [
    `done('ready'); await until('gone'); await sleep(20_000); done('saved');`,
    `await until('ready'); done('gone'); process.exit(1);`,
  ]);
  assert.ok(!hangs.has('saved'));
  assert.equal(hangs.result.exitCode, 1);
});

test('where rank 0 had to be killed after an interruption, that is no success', async () => {
  // Nobody asked this process: rank 1 was interrupted on its own.
  const { result } = await run('alone', [`done('ready'); await sleep(60_000);`, `process.exit(143);`]);
  assert.equal(result.exitCode, 1);
  assert.match(result.error!.what, /rank 1 was interrupted, rank 0 did not end/);
});

test('an error counts for more than the interruptions that follow from it', async () => {
  const { result } = await run('mixed', [
    `await until('failed'); process.exit(143);`,
    `done('failed'); process.exit(3);`,
    `await until('failed'); process.exit(143);`,
  ]);
  assert.equal(result.exitCode, 3);
  assert.match(result.error!.what, /rank 1 ended with exit code 3/);
});

test('a port that somebody else took meanwhile is exchanged for another', async () => {
  const { result, has } = await run(
    'port',
    [
      `if (process.env.MASTER_PORT === '47011') {
         done('refused ' + process.env.FORNAX_LAUNCHED);
         process.send('port is taken', () => process.exit(1));
       } else done('listened');`,
      `if (process.env.MASTER_PORT === '47011') await sleep(60_000);`,
    ],
    { port: 47011, graceMs: 60_000 },
  );
  assert.deepEqual(result, { exitCode: 0, error: null });
  assert.ok(has('listened'));
});

test('a port that somebody else has is told as that, for the launcher to take another', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const { port } = server.address() as AddressInfo;
  try {
    const place = { rank: 0, world: 2, localRank: 0, localWorld: 2, host: '127.0.0.1', port };
    await assert.rejects(Processes.connect(place, 'cpu', 5), (error) => noteOf(error) === 'port is taken');
  } finally {
    server.close();
  }
});
