/** How long it takes to start: the command's help, the addon, and `import torch` beside them. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Peer } from './peer.js';
import { speedup, spread, type Row } from './row.js';

const packageRoot = fileURLToPath(new URL('../../../', import.meta.url));

const loadScript = `
const { loadAddon } = await import(${JSON.stringify(`${packageRoot}dist/native.js`)});
const start = performance.now();
loadAddon();
console.log(performance.now() - start);
`;

const importScript = `
import time
start = time.perf_counter()
import torch
print((time.perf_counter() - start) * 1000)
`;

/** Wall time of the process, and the figure it printed last, in milliseconds. */
function timed(command: string, args: string[], env: NodeJS.ProcessEnv): { wall: number; printed: number } {
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  const wall = performance.now() - start;
  if (status !== 0)
    throw new Error(`${command} ${args[0] ?? ''} ended with code ${String(status)}: ${stderr}`);
  return { wall, printed: Number(stdout.trim().split('\n').at(-1)) };
}

export function benchStartup(peer: Peer | null, rounds: number): Row[] {
  const env = peer?.libtorch ? { FORNAX_LIBTORCH: peer.libtorch } : {};
  const sides = {
    help: () => timed(process.execPath, [`${packageRoot}dist/cli/main.js`, '--help'], env),
    load: () => timed(process.execPath, ['--input-type=module', '-e', loadScript], env),
    torch: peer ? () => timed(peer.python, ['-c', importScript], {}) : null,
  };
  const times: Record<'help' | 'load' | 'torch', { wall: number; printed: number }[]> = {
    help: [],
    load: [],
    torch: [],
  };
  for (let round = 0; round <= rounds; round++) {
    for (const [name, run] of Object.entries(sides)) {
      const result = run?.();
      // The first round fills the caches of files and of trial loads.
      if (result && round > 0) times[name as keyof typeof times].push(result);
    }
  }
  const row = (name: string, fornax: number[], torch: number[] | null, limit?: number): Row => {
    const result: Row = {
      name,
      unit: 'ms',
      better: 'lower',
      fornax: spread(fornax),
      peer: torch && torch.length > 0 ? spread(torch) : null,
      peerName: peer ? `${peer.name}, import torch` : 'no Python with torch',
      speedup: null,
      ...(limit === undefined ? {} : { limit }),
    };
    return { ...result, speedup: speedup(result) };
  };
  const pick = (side: keyof typeof times, what: 'wall' | 'printed'): number[] =>
    times[side].map((result) => result[what]);
  return [
    { ...row('start: fornax --help', pick('help', 'wall'), null, 150), peerName: '' },
    row('start: loading the addon', pick('load', 'printed'), pick('torch', 'printed'), 500),
    row('start: process with the addon loaded', pick('load', 'wall'), pick('torch', 'wall')),
  ];
}
