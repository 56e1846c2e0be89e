/** How much memory of the host a process can take: what the machine has left, and what its control group allows. */
import { readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * Bytes that this process could have in all: those that are free, and its own.
 *
 * @param own bytes of the process that it could use again.
 * @param root of the file system, for tests.
 */
export function freeHostMemory(own: number, root = '/'): number {
  const meminfo = read(path.join(root, 'proc/meminfo')) ?? '';
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo);
  const machine = available ? Number(available[1]) * 1024 : Infinity;
  return Math.min(machine, ...groupRooms(root)) + own;
}

/** What is left within each limit on this process: of its control group, and of those above it. */
function groupRooms(root: string): number[] {
  const lines = (read(path.join(root, 'proc/self/cgroup')) ?? '').split('\n');
  const places = lines.map((line) => /^\d+:([^:]*):(.*)$/.exec(line));
  const rooms = places.flatMap((place) => {
    if (!place) return [];
    const [, controllers = '', group = '/'] = place;
    if (controllers === '')
      return above(path.join(root, 'sys/fs/cgroup'), group).map((dir) => roomOf(dir, V2));
    if (!controllers.split(',').includes('memory')) return [];
    return above(path.join(root, 'sys/fs/cgroup/memory'), group).map((dir) => roomOf(dir, V1));
  });
  return rooms;
}

/** The folders of a group and of those above it. In a container its path may be that outside: then it is not there. */
function above(mount: string, group: string): string[] {
  const names = group.split('/').filter((name) => name !== '');
  return Array.from({ length: names.length + 1 }, (_, count) => path.join(mount, ...names.slice(0, count)));
}

/** Files of a control group: its limit, what it takes, and in its statistics what of that is only a cache. */
const V2 = { limit: 'memory.max', used: 'memory.current', cache: /^inactive_file (\d+)$/m };
const V1 = {
  limit: 'memory.limit_in_bytes',
  used: 'memory.usage_in_bytes',
  cache: /^total_inactive_file (\d+)$/m,
};

/** Infinity without a limit. */
function roomOf(group: string, files: typeof V2): number {
  const limit = Number.parseInt(read(path.join(group, files.limit)) ?? '', 10);
  if (Number.isNaN(limit)) return Infinity;
  const used = Number.parseInt(read(path.join(group, files.used)) ?? '', 10) || 0;
  const cache = Number(files.cache.exec(read(path.join(group, 'memory.stat')) ?? '')?.[1] ?? 0);
  return Math.max(0, limit - Math.max(0, used - cache));
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
