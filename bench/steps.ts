/** Training steps of Fornax and of PyTorch eager, alternating: time and peak memory. */
import { fileURLToPath } from 'node:url';
import { BenchChild } from './child.js';
import type { Peer } from './peer.js';
import { speedup, spread, type Row } from './row.js';
import { stepCases, type StepCase } from './step_case.js';

export interface StepBenchOptions {
  peer: Peer | null;
  threads: number;
  channelsLast: boolean;
  /** Measured rounds of each side. */
  rounds: number;
  /** Seconds that a round of one side lasts, about. */
  seconds: number;
  log: (line: string) => void;
}

interface Side {
  child: BenchChild;
  /** Median milliseconds of a step, by round. */
  times: number[];
  /** Milliseconds of processor time of a step, by round. */
  cpu: number[];
}

const WARM_UP_STEPS = 10;

export async function benchSteps(options: StepBenchOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const setting of stepCases(options.threads, options.channelsLast)) {
    if (setting.peerOptimizer === 'default' && !options.peer) continue;
    rows.push(...(await benchStep(setting, options)));
  }
  return rows;
}

async function benchStep(setting: StepCase, options: StepBenchOptions): Promise<Row[]> {
  const { peer } = options;
  const fornax = await startSide(process.execPath, [worker()], setting, {
    ...(peer?.libtorch ? { FORNAX_LIBTORCH: peer.libtorch } : {}),
  });
  const torch = peer ? await startSide(peer.python, [peer.script('step.py')], setting) : null;
  try {
    if (torch && torch.child.hello.parameters !== fornax.child.hello.parameters) {
      throw new Error(
        `${setting.name}: the two models differ: ${JSON.stringify([fornax.child.hello, torch.child.hello])}`,
      );
    }
    const sides = torch ? [fornax, torch] : [fornax];
    const steps = await warmUp(sides, options.seconds);
    for (let round = 0; round < options.rounds; round++) {
      for (const side of sides) await runRound(side, steps);
    }
    const memory = await Promise.all(sides.map(({ child }) => peakMebibytes(child)));
    const floor = torch ? Number((await torch.child.ask({ floor: true })).milliseconds) : undefined;
    return makeRows(setting, { fornax, torch, memory, floor, steps }, options);
  } finally {
    await fornax.child.stop();
    await torch?.child.stop();
  }
}

function worker(): string {
  return fileURLToPath(new URL('./step_worker.js', import.meta.url));
}

async function startSide(
  command: string,
  args: string[],
  setting: StepCase,
  env: NodeJS.ProcessEnv = {},
): Promise<Side> {
  return {
    child: await BenchChild.start(command, [...args, JSON.stringify(setting)], env),
    times: [],
    cpu: [],
  };
}

/** Runs both sides in and returns how many steps make a round. */
async function warmUp(sides: Side[], seconds: number): Promise<number> {
  let slowest = 0;
  for (const { child } of sides) {
    await child.ask({ run: WARM_UP_STEPS });
    const { milliseconds } = await child.ask({ run: WARM_UP_STEPS });
    slowest = Math.max(slowest, spread(milliseconds as number[]).median);
  }
  return Math.min(2000, Math.max(5, Math.round((seconds * 1000) / slowest)));
}

async function runRound({ child, times, cpu }: Side, steps: number): Promise<void> {
  const answer = await child.ask({ run: steps });
  if (!Number.isFinite(answer.loss)) throw new Error(`the loss became ${String(answer.loss)}`);
  times.push(spread(answer.milliseconds as number[]).median);
  cpu.push(answer.cpu as number);
}

async function peakMebibytes(child: BenchChild): Promise<number> {
  return Number((await child.ask({ memory: true })).bytes) / 2 ** 20;
}

interface Measured {
  fornax: Side;
  torch: Side | null;
  memory: number[];
  floor: number | undefined;
  steps: number;
}

function makeRows(
  setting: StepCase,
  { fornax, torch, memory, floor, steps }: Measured,
  { peer, rounds, log }: StepBenchOptions,
): Row[] {
  const peerName = peer?.name ?? 'no Python with torch';
  const cpu = [fornax, torch].map((side) => (side ? spread(side.cpu).median.toFixed(2) : '–'));
  const time: Row = {
    name: `training step: ${setting.name}`,
    unit: 'ms',
    better: 'lower',
    fornax: spread(fornax.times),
    peer: torch ? spread(torch.times) : null,
    peerName,
    speedup: null,
    target: 1 / setting.target,
    ...(floor === undefined ? {} : { floor }),
    notes: `${rounds} rounds of ${steps} steps; processor time a step: Fornax ${cpu[0]} ms, peer ${cpu[1]} ms`,
  };
  time.speedup = speedup(time);
  log(`${time.name}: ${time.fornax.median.toFixed(2)} ms, peer ${time.peer?.median.toFixed(2) ?? '–'} ms`);
  if (setting.peerOptimizer === 'default') return [time];
  const peak: Row = {
    name: `peak memory: ${setting.name}`,
    unit: 'MiB',
    better: 'lower',
    fornax: spread([memory[0]!]),
    peer: torch ? spread([memory[1]!]) : null,
    peerName,
    speedup: null,
  };
  peak.speedup = speedup(peak);
  return [time, peak];
}
