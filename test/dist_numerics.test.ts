/** Mixing, averaging and the watch for NaN with several processes (`--nproc`), which must decide alike. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { readSafetensors } from '#fornax/io/safetensors.js';

import { fornax, jsonLines, type CliResult } from './support/cli.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
  await writeColourFolder(path.join(root.path, 'images'));
  await fs.writeFile(
    path.join(root.path, 'config.yaml'),
    `model: {name: tiny_cnn}
device: cpu
data: {path: images, cache: cache, resolution: 24}
run: {dir: runs}
train: {epochs: 2, batch_size: 4, lr: 0.05, amp: 'off'}
`,
  );
});
after(() => root[Symbol.asyncDispose]());

function train(name: string, settings: readonly string[], args: readonly string[] = []): Promise<CliResult> {
  const set = settings.flatMap((setting) => ['--set', setting]);
  const all = ['train', 'config.yaml', '--name', name, '--nproc', '2', '--json', ...set, ...args];
  return fornax(all, { cwd: root.path });
}

async function weights(name: string): Promise<Record<string, unknown>> {
  const { tensors } = await readSafetensors(path.join(root.path, 'runs', name, 'model.safetensors'));
  return Object.fromEntries([...tensors].map(([key, tensor]) => [key, [...tensor.toTypedArray()]]));
}

test('two processes mix and average; resumed, they end alike', async () => {
  const settings = ['train.mixup=0.4', 'train.cutmix=1', 'train.swa={start: 0, interval_steps: 3}'];
  const whole = await train('mixed', settings);
  assert.equal(whole.code, 0, whole.stderr);
  // Killed as if by a full machine: what is left is the checkpoint of the first epoch.
  const checkpoints = path.join(root.path, 'runs', 'mixed', 'checkpoints');
  const [first] = (await fs.readdir(checkpoints)).filter((name) => /\d/.test(name)).sort();
  const resumed = await train('again', settings, ['--resume-from', path.join(checkpoints, first!)]);
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.equal(jsonLines(resumed.stdout).find(({ type }) => type === 'start')!['first_step'], 8);
  assert.deepEqual(await weights('again'), await weights('mixed'));
});

test('NaN stops both processes with the first bad node, or rolls both back', async () => {
  const exploding = ['train.lr=1.0e+30', 'train.optimizer=sgd'];
  const stopped = await train('stopped', exploding);
  assert.equal(stopped.code, 1, stopped.stderr);
  const found = jsonLines(stopped.stdout).find(({ type }) => type === 'not_finite')!;
  assert.equal(found['action'], 'stop');
  assert.match(String(found['message']), /not finite .*at step \d: first bad node .* at \w+ \(node \d+\)/);
  const rollback = [...exploding, 'train.nan_watch={policy: rollback, rollbacks: 2}'];
  const rolled = await train('rolled', rollback);
  assert.equal(rolled.code, 1, rolled.stderr);
  const actions = jsonLines(rolled.stdout).filter(({ type }) => type === 'not_finite');
  assert.deepEqual(
    actions.map(({ action }) => action),
    ['rollback', 'rollback', 'stop'],
  );
});
