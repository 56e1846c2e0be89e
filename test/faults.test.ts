/** A full or read-only disk at any write of a run: a typed error, and nothing that a resume cannot repair. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { defineConfig } from '#fornax/config/load.js';
import { trainJob } from '#fornax/train/job.js';

import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

const source = fileURLToPath(new URL('../../../test/support/faults.c', import.meta.url));
const child = fileURLToPath(new URL('./support/fault_child.js', import.meta.url));
/** 1: every single write. */
const STRIDE = Number(process.env['FORNAX_FAULT_STRIDE'] ?? 5);

test('a disk that fails at any write costs nothing that was kept', { timeout: 600_000 }, async (t) => {
  if (process.platform !== 'linux') return t.skip('the shim that injects faults is for Linux');
  await using root = await temporaryFolder();
  const library = path.join(root.path, 'faults.so');
  execFileSync('cc', ['-O1', '-shared', '-fPIC', '-o', library, source, '-ldl', '-lpthread']);
  const images = path.join(root.path, 'images');
  await writeColourFolder(images, { train: 4, val: 2 });
  const cache = path.join(root.path, 'cache');
  const dir = path.join(root.path, 'runs');
  const config = defineConfig({
    name: 'fault',
    model: { name: 'tiny_cnn' },
    device: 'cpu',
    data: { path: images, cache, resolution: 16 },
    run: { dir },
    checkpoint: { everySteps: 1 },
    train: { epochs: 2, batchSize: 6, lr: 0.05, amp: 'off', ema: { decay: 0.9 }, bnRecompute: 2 },
  });
  // The pack lies outside of FAULT_ROOT and is there already.
  await trainJob({ ...config, name: 'pack' });
  const result = spawnSync(process.execPath, [child, JSON.stringify({ config, stride: STRIDE })], {
    encoding: 'utf8',
    env: { ...process.env, LD_PRELOAD: library, FAULT_ROOT: path.join(dir, 'fault') },
  });
  assert.equal(result.status, 0, `${result.signal ?? ''}${result.stderr}`);
  const { struck, errors } = JSON.parse(result.stdout) as {
    struck: Record<string, number>;
    errors: string[];
  };
  t.diagnostic(
    Object.entries(struck)
      .map(([key, count]) => `${key}: ${count}`)
      .join(', '),
  );
  for (const [key, count] of Object.entries(struck)) {
    assert.ok(count * STRIDE > (key.endsWith('start') ? 30 : 20), `${key}: only ${count} faults`);
  }
  assert.equal(Object.keys(struck).length, 6);
  assert.ok(
    errors.some((what) => /no space|disk is full/i.test(what)),
    errors.join('; '),
  );
  assert.ok(
    errors.some((what) => /read-only/i.test(what)),
    errors.join('; '),
  );
});
