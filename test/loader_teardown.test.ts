import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, describe, it } from 'node:test';
import { makeImage, writeShard } from './support/pack_files.js';

const folder = mkdtempSync(join(tmpdir(), 'fornax-teardown-'));
after(() => rmSync(folder, { recursive: true }));
const images = Array.from({ length: 640 }, (_, i) => makeImage(80, 100, 3, 0, () => i % 256));
const shard = JSON.stringify(writeShard(folder, 'shard', images));

function run(mode: string) {
  const child = fileURLToPath(new URL('support/loader_child.js', import.meta.url));
  const result = spawnSync(process.execPath, ['--expose-gc', child, mode, shard], {
    encoding: 'utf8',
    timeout: 300_000,
  });
  assert.equal(result.error, undefined, `${mode}: ${String(result.error)}`);
  assert.equal(result.signal, null, `${mode} died of ${result.signal}: ${result.stderr}`);
  return result;
}

describe('a process whose loader is at work', () => {
  it('ends by process.exit()', () => {
    for (let round = 0; round < 3; round++) assert.equal(run('exit').status, 7);
  });

  it('ends by an uncaught exception', () => {
    const result = run('throw');
    assert.equal(result.status, 1);
    assert.match(result.stderr, /uncaught on purpose/);
  });

  it('ends by itself when nothing is awaited', () => {
    assert.equal(run('end').status, 0);
  });

  it('goes on when a worker thread with a loader is terminated', () => {
    const result = run('worker');
    assert.equal(result.status, 0, result.stderr);
    assert.match(result.stdout, /terminated/);
  });

  it('stops the threads of loaders that are garbage', () => {
    const result = run('collect');
    assert.equal(result.status, 0, result.stderr);
    const { started, left } = JSON.parse(result.stdout) as { started: number; left: number };
    assert.ok(started >= 20, `${started} threads started`);
    assert.equal(left, 0, `${left} threads left`);
  });

  it('gets the batches that it waits for, even where nobody keeps the loader', () => {
    const result = run('awaited');
    assert.equal(result.status, 0, result.stderr);
    assert.equal(result.stdout, '10\n');
  });
});
