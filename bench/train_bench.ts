/** Training steps of Fornax and of PyTorch in its three ways, in turns: time, memory, checkpoints. */
import { fileURLToPath } from 'node:url';
import { BenchChild } from './child.js';
import type { Peer } from './peer.js';
import { spread } from './row.js';
import { variantsOn, type TrainCase, type Variant } from './train_case.js';
import type { CheckpointFigures, TrainResult, VariantResult } from './train_report.js';

export interface TrainBenchOptions {
  peer: Peer | null;
  /** Ids of those to measure; null: all. */
  variants: readonly string[] | null;
  /** Measured rounds of each side. */
  rounds: number;
  /** Seconds that a round of one side lasts, about. */
  seconds: number;
  log: (line: string) => void;
}

interface Side {
  variant: Variant;
  child: BenchChild;
  /** Median milliseconds of a step, by round. */
  times: number[];
  /** Milliseconds of processor time of a step, by round. */
  cpu: number[];
  faults: number[];
  /** Share of the last round's steps that were repeated from a recording. */
  repeated: number;
  /** Steps of a round. */
  steps: number;
}

const WARM_UP_SECONDS = 1;
/** For a peer to compile and make its first step. */
const PEER_SECONDS = 300;
const MOST_STEPS = 4000;
/** How often the floor measures each layer. */
const FLOOR_REPEATS = 9;
const BESIDE_MS = 250;
const CHECKPOINTS = 3;
const RESUMES = 3;

/** @throws Error if Fornax fails, or trains another model than the peer. A peer that fails is reported. */
export async function benchTraining(setting: TrainCase, options: TrainBenchOptions): Promise<TrainResult> {
  const { log } = options;
  const sides: Side[] = [];
  const variants: VariantResult[] = [];
  try {
    for (const variant of variantsOn(setting.device)) {
      if (variant.side === 'peer' && !options.peer) continue;
      if (variant.id !== 'fornax' && options.variants?.includes(variant.id) === false) continue;
      log(`${setting.id}: starting ${variant.title} …`);
      const started = await startSide(setting, variant, options);
      if (typeof started === 'string') {
        log(`${setting.id}: ${variant.title} failed: ${started}`);
        variants.push({ variant, failed: started });
      } else sides.push(started);
    }
    requireSameModel(setting, sides);
    for (const side of sides) await warmUp(side, options.seconds);
    for (let round = 0; round < options.rounds; round++) {
      log(`${setting.id}: round ${round + 1} of ${options.rounds}`);
      for (const side of sides) await runRound(side);
    }
    for (const side of sides) variants.push(await figures(side));
    const floor = await measureFloor(setting, sides, log);
    const beside = await measureBeside(setting, sides, log);
    const checkpoints = setting.checkpoints ? await measureCheckpoints(setting, sides, log) : null;
    return { setting, variants, floor, beside, checkpoints };
  } finally {
    for (const { child } of sides) await child.stop();
  }
}

async function startSide(
  setting: TrainCase,
  variant: Variant,
  { peer }: TrainBenchOptions,
): Promise<Side | string> {
  const of =
    variant.side === 'fornax'
      ? { command: process.execPath, script: fileURLToPath(new URL('./train_worker.js', import.meta.url)) }
      : { command: peer!.python, script: peer!.script('train.py') };
  const env = variant.side === 'fornax' && peer?.libtorch ? { FORNAX_LIBTORCH: peer.libtorch } : {};
  let child: BenchChild;
  try {
    const limit = variant.side === 'peer' ? PEER_SECONDS : undefined;
    child = await BenchChild.start(of.command, [of.script, JSON.stringify(setting), variant.id], env, limit);
  } catch (error) {
    if (variant.side === 'fornax') throw error;
    return (error as Error).message;
  }
  if (typeof child.hello.failed === 'string') {
    await child.stop();
    return child.hello.failed;
  }
  return { variant, child, times: [], cpu: [], faults: [], repeated: 0, steps: 1 };
}

function requireSameModel(setting: TrainCase, sides: Side[]): void {
  const counts = new Set(sides.map(({ child }) => child.hello.parameters));
  if (counts.size <= 1) return;
  const list = sides.map(({ variant, child }) => `${variant.title} ${String(child.hello.parameters)}`);
  throw new Error(`${setting.name}: the models differ in their parameters: ${list.join(', ')}`);
}

async function warmUp(side: Side, seconds: number): Promise<void> {
  let step = 0;
  for (let spent = 0, steps = 3; spent < WARM_UP_SECONDS; steps *= 2) {
    const { milliseconds } = await side.child.ask({ run: steps });
    step = spread(milliseconds as number[]).median;
    spent += (step * steps) / 1000;
  }
  side.steps = Math.min(MOST_STEPS, Math.max(5, Math.round((seconds * 1000) / step)));
}

async function runRound(side: Side): Promise<void> {
  const answer = await side.child.ask({ run: side.steps });
  if (!Number.isFinite(answer.loss)) {
    throw new Error(`${side.variant.title}: the loss became ${String(answer.loss)}`);
  }
  side.times.push(spread(answer.milliseconds as number[]).median);
  side.cpu.push(answer.cpu as number);
  if (typeof answer.faults === 'number') side.faults.push(answer.faults);
  side.repeated = Number(answer.repeated ?? 0);
}

async function figures({ variant, child, times, cpu, faults, repeated }: Side): Promise<VariantResult> {
  return {
    variant,
    time: spread(times),
    cpu: spread(cpu).median,
    faults: faults.length > 0 ? spread(faults).median : null,
    repeated,
    memory: Number((await child.ask({ memory: true })).bytes),
    firstSeconds: Number(child.hello.firstSeconds),
    libtorch: String(child.hello.torch),
  };
}

async function measureFloor(
  setting: TrainCase,
  sides: Side[],
  log: TrainBenchOptions['log'],
): Promise<TrainResult['floor']> {
  const side = sides.find(({ variant }) => variant.side === 'peer');
  if (!side) return null;
  log(`${setting.id}: floor, layer by layer`);
  const { milliseconds, fastest } = await side.child.ask({ floor: FLOOR_REPEATS });
  return { milliseconds: Number(milliseconds), fastest: fastest as Record<string, number> };
}

async function measureBeside(
  setting: TrainCase,
  sides: Side[],
  log: TrainBenchOptions['log'],
): Promise<TrainResult['beside']> {
  log(`${setting.id}: beside an evaluation session`);
  const side = sides.find(({ variant }) => variant.id === 'fornax')!;
  // Half of what an evaluation session keeps its threads for, at most.
  const step = spread(side.times).median;
  const { idle, busy } = await side.child.ask({ beside: Math.max(1, Math.round(BESIDE_MS / step)) });
  return { idle: Number(idle), busy: Number(busy) };
}

async function measureCheckpoints(
  setting: TrainCase,
  sides: Side[],
  log: TrainBenchOptions['log'],
): Promise<CheckpointFigures[]> {
  const rows: CheckpointFigures[] = [];
  for (const wanted of ['fornax', 'peer'] as const) {
    const side = sides.find(({ variant }) => variant.side === wanted);
    if (!side) continue;
    log(`${setting.id}: checkpoints of ${side.variant.title}`);
    const saved = await side.child.ask({ checkpoint: CHECKPOINTS });
    const resumes: number[] = [];
    for (let i = 0; i < RESUMES; i++) {
      resumes.push(Number((await side.child.ask({ resume: true })).milliseconds));
    }
    rows.push({
      variant: side.variant,
      pause: Number(saved.pause),
      held: saved.held === undefined ? null : Number(saved.held),
      written: saved.written === undefined ? null : Number(saved.written),
      processor: Number(saved.processor),
      bytes: Number(saved.bytes),
      resume: spread(resumes).median,
    });
  }
  return rows;
}
