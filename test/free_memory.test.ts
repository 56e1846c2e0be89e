/** Where a batch size is looked for: how much memory a process can take, and that the search can be limited to it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { freeHostMemory } from '#fornax/train/free_memory.js';

import { temporaryFolder } from './support/image_folder.js';

const MiB = 2 ** 20;

/** A file system with these files. */
async function rooted(files: Record<string, string>): Promise<{ path: string } & AsyncDisposable> {
  const root = await temporaryFolder();
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root.path, name)), { recursive: true });
    writeFileSync(path.join(root.path, name), text);
  }
  return root;
}

const meminfo = 'MemTotal:       32768000 kB\nMemAvailable:   16384000 kB\n';

test('without a limit it is what the machine has, and what the process holds already', async () => {
  await using root = await rooted({ 'proc/meminfo': meminfo, 'proc/self/cgroup': '0::/\n' });
  assert.equal(freeHostMemory(5 * MiB, root.path), 16_000 * MiB + 5 * MiB);
});

test('in a container it is what is left of the limit, a cache of files apart', async () => {
  await using root = await rooted({
    'proc/meminfo': meminfo,
    'proc/self/cgroup': '0::/\n',
    'sys/fs/cgroup/memory.max': `${4096 * MiB}\n`,
    'sys/fs/cgroup/memory.current': `${1536 * MiB}\n`,
    'sys/fs/cgroup/memory.stat': `anon 1\ninactive_file ${36 * MiB}\nactive_file 7\n`,
  });
  // 1.5 GiB are taken, of which the process has 100 MiB: never more than the limit.
  assert.equal(freeHostMemory(100 * MiB, root.path), (4096 - 1500 + 100) * MiB);
});

test('the groups above count, too, and a group without a limit does not', async () => {
  await using root = await rooted({
    'proc/meminfo': meminfo,
    'proc/self/cgroup': '0::/user.slice/job.scope\n',
    'sys/fs/cgroup/user.slice/memory.max': `${1000 * MiB}\n`,
    'sys/fs/cgroup/user.slice/memory.current': `${1100 * MiB}\n`,
    'sys/fs/cgroup/user.slice/job.scope/memory.max': 'max\n',
    'sys/fs/cgroup/user.slice/job.scope/memory.current': `${100 * MiB}\n`,
  });
  assert.equal(freeHostMemory(0, root.path), 0);
});

test('control groups of the first version', async () => {
  await using root = await rooted({
    'proc/meminfo': meminfo,
    'proc/self/cgroup': '11:cpu,cpuacct:/a\n4:memory:/docker/abc\n0::/a\n',
    // Seen from inside, the group is the root.
    'sys/fs/cgroup/memory/memory.limit_in_bytes': `${2000 * MiB}\n`,
    'sys/fs/cgroup/memory/memory.usage_in_bytes': `${500 * MiB}\n`,
    'sys/fs/cgroup/memory/memory.stat': `cache 3\ntotal_inactive_file ${100 * MiB}\n`,
  });
  assert.equal(freeHostMemory(0, root.path), 1600 * MiB);
});

test('an allocator that keeps no limit is refused by name, and stands in nobody else’s way', () => {
  const code = `
    const { claimBudget, limitSearch } = await import('#fornax/train/memory_budget.js');
    for (const attempt of [1, 2]) {
      try { limitSearch('cpu', 2 ** 30, null); } catch (error) { console.log(error.where, error.what); }
    }
    claimBudget({}, 'cpu', 5);
    console.log('claimed');`;
  const cwd = fileURLToPath(new URL('../../..', import.meta.url));
  const env = { ...process.env, FORNAX_CPU_ALLOCATOR: 'system' };
  const args = ['--input-type=module', '-e', code];
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd, env, encoding: 'utf8' });
  const [first, second, claimed] = stdout.trimEnd().split('\n');
  assert.match(first ?? stderr, /^train\.batch_size the batch size cannot be found automatically: .+/);
  assert.equal(second, first);
  assert.equal(claimed, 'claimed', stderr);
});
