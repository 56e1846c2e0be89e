/** Where and when figures were measured, in one line each. */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import type { SystemInfo } from '#fornax/native/contract.js';

export function describeMachine(info: SystemInfo): string {
  const features = Object.entries(info.cpu_features)
    .filter(([, present]) => present)
    .map(([name]) => name);
  const memory = Math.round(totalmem() / 2 ** 30);
  return (
    `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${availableParallelism()} cores, ${memory} GiB, ` +
    `${info.cpu_capability} (${features.join(', ')}), allocator ${info.cpu_allocator}`
  );
}

/** Jobs that wanted a core during the last minute: well above those of the benchmark, and figures are noisy. */
export function loadAverage(): string {
  return readFileSync('/proc/loadavg', 'utf8').split(' ')[0]!;
}
