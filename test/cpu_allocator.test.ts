/** The caching CPU allocator: memory of one training step serves the next one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const HUGE_PAGES = '/sys/kernel/mm/transparent_hugepage/enabled';
/** With huge pages everywhere a step faults in a handful of them, whichever allocator it has. */
const skip =
  existsSync(HUGE_PAGES) && readFileSync(HUGE_PAGES, 'utf8').includes('[always]')
    ? 'transparent huge pages are always on here: there are no faults to count'
    : false;

interface Outcome {
  faults: number;
  losses: number[];
}

function trainWith(environment: Record<string, string>): Outcome {
  const script = fileURLToPath(new URL('./support/allocator_process.js', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
    encoding: 'utf8',
    env: {
      ...process.env,
      FORNAX_CPU_ALLOCATOR: '',
      FORNAX_CPU_CACHE_MIB: '',
      // Else glibc raises this threshold as it goes, and by luck keeps what a step needs, too.
      MALLOC_MMAP_THRESHOLD_: '131072',
      ...environment,
    },
  });
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as Outcome;
}

test('a training step faults hardly any page in again, unlike with the system allocator', { skip }, () => {
  const caching = trainWith({});
  const system = trainWith({ FORNAX_CPU_ALLOCATOR: 'system' });
  assert.ok(system.faults > 1000, `system: ${system.faults} faults a step`);
  assert.ok(caching.faults < system.faults / 5, `${caching.faults} against ${system.faults} faults a step`);
  assert.deepEqual(caching.losses, system.losses);
});

test('a cache that is too small for a step costs time, not results', () => {
  const small = trainWith({ FORNAX_CPU_CACHE_MIB: '4' });
  const none = trainWith({ FORNAX_CPU_CACHE_MIB: '0' });
  // Big blocks come in huge pages where the kernel has them: one fault for 2 MiB.
  if (!skip) assert.ok(none.faults > 50, `no cache: ${none.faults} faults a step`);
  assert.deepEqual(small.losses, none.losses);
});
