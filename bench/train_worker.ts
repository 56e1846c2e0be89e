/**
 * Fornax's side of `npm run bench:train`: `train_worker.js CASE VARIANT` (a TrainCase as JSON). Says once that it is
 * ready, then answers each line of JSON:
 *
 * - `{"run": steps}`: milliseconds of each step, processor time and page faults a step
 * - `{"beside": steps}`: milliseconds of a step beside an open evaluation session, idle and having just computed
 * - `{"memory": true}`: peak bytes, resident on the CPU, allocated on a GPU
 * - `{"checkpoint": times}`: what a checkpoint in the background costs training, milliseconds and bytes
 * - `{"resume": true}`: from building the model to the end of the first step after a checkpoint, milliseconds
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NativeTrain } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Answer } from './child.js';
import { spread } from './row.js';
import { BATCHES, type TrainCase } from './train_case.js';
import { measureCheckpoint, measureResume, type CheckpointedSide } from './train_checkpoint.js';
import { configOf, makeBatches, makeModel, openSession } from './train_side.js';

const setting = JSON.parse(process.argv[2]!) as TrainCase;
/** Steps are measured in pieces, so that there is a median. */
const PIECES = 20;
/** Longer than a session keeps its pool (compute_thread.h). */
const IDLE_MS = 1000;

const batches = makeBatches(setting);
let next = 0;
let memory = 0;
let loss = NaN;
/** Steps repeated from a recording, since the last answer. */
let repeated = 0;

/** As a training run does it: a native loop over batches that are there. Returns its seconds. */
async function advance(session: NativeTrain, steps: number): Promise<number> {
  const source = Array.from({ length: steps }, () => batches[next++ % BATCHES]!);
  const result = await session.run(source, {
    steps,
    onEvent: (event) => {
      loss = event.losses.at(-1) ?? loss;
      memory = event.memory;
      if (event.declined) process.stderr.write(`  No CUDA graphs: ${event.declined}\n`);
    },
  });
  repeated += result.repeated ?? 0;
  return result.seconds;
}

async function runSteps(session: NativeTrain, count: number): Promise<Answer> {
  const milliseconds: number[] = [];
  const piece = Math.max(1, Math.round(count / PIECES));
  repeated = 0;
  const before = process.resourceUsage();
  for (let done = 0; done < count; done += piece) {
    const steps = Math.min(piece, count - done);
    milliseconds.push((1000 * (await advance(session, steps))) / steps);
  }
  const after = process.resourceUsage();
  const cpu = after.userCPUTime - before.userCPUTime + after.systemCPUTime - before.systemCPUTime;
  const faults = after.minorPageFault - before.minorPageFault;
  return { milliseconds, cpu: cpu / 1000 / count, faults: faults / count, repeated: repeated / count, loss };
}

/** What an evaluation session that stays open costs: as long as it has an OpenMP pool, regions of the other wait asleep. */
async function besideEvaluation({ model, session }: CheckpointedSide, steps: number): Promise<Answer> {
  const evaluation = new (loadAddon().InferenceSession)(model.native, {
    device: setting.device === 'cpu' ? 'cpu' : 'cuda:0',
    ...(setting.device === 'cpu' ? { threads: setting.threads } : {}),
    channels_last: true,
  });
  const idle: number[] = [];
  const busy: number[] = [];
  for (let i = 0; i < 3; i++) {
    const outputs = await evaluation.forward({ image: batches[0]!.image! });
    for (const tensor of Object.values(outputs)) tensor.dispose();
    busy.push((1000 * (await advance(session, steps))) / steps);
    await sleep(IDLE_MS);
    await advance(session, 2);
    idle.push((1000 * (await advance(session, steps))) / steps);
  }
  evaluation.dispose();
  return { idle: spread(idle).median, busy: spread(busy).median };
}

function peakBytes(): number {
  if (setting.device === 'cuda') return memory;
  return Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
}

function say(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

interface Request {
  run?: number;
  beside?: number;
  memory?: boolean;
  checkpoint?: number;
  resume?: boolean;
}

async function answer(side: CheckpointedSide, request: Request): Promise<Answer> {
  if (request.run !== undefined) return runSteps(side.session, request.run);
  if (request.beside !== undefined) return besideEvaluation(side, request.beside);
  if (request.checkpoint !== undefined) return measureCheckpoint(side, request.checkpoint);
  if (request.resume) return measureResume(side);
  return { bytes: peakBytes() };
}

const variant = process.argv[3]!;
const config = configOf(setting, variant);
const model = makeModel(setting);
const start = performance.now();
const opened = await openSession(setting, config, model, { variant });
await advance(opened.session, 1);
say({
  torch: loadAddon().systemInfo().torch_version,
  parameters: model.parameterCount,
  firstSeconds: (performance.now() - start) / 1000,
});
for await (const line of createInterface({ input: process.stdin })) {
  say(await answer({ ...opened, setting, variant, config, model, advance }, JSON.parse(line) as Request));
}
opened.session.dispose();
model.dispose();
