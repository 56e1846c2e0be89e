/**
 * Fornax's side of the training-step benchmark: `step_worker.js CASE` (a StepCase as JSON). Answers
 * `{"run": steps}` with the milliseconds of each step and `{"memory": true}` with the peak resident bytes.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { trace } from '#fornax/graph/trace.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { createModule } from '#fornax/models/registry.js';
import type { NativeTensor, NativeTrain } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { Linear, type Module, ReLU, Sequential } from '#fornax/nn/index.js';
import { BATCHES, LEARNING_RATE, MOMENTUM, type StepCase } from './step_case.js';

const setting = JSON.parse(process.argv[2]!) as StepCase;

function makeModule(): Module {
  if (setting.model !== 'head') return createModule(setting.model, { numClasses: setting.classes });
  return new Sequential(new Linear(setting.shape[1]!, 256), new ReLU(), new Linear(256, setting.classes));
}

function makeSession(): { session: NativeTrain; parameters: number } {
  const addon = loadAddon();
  const model = new addon.Graph(trace(makeModule(), { inputs: [setting.shape] }), { trusted: true });
  model.initialize(0);
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  const session = new addon.TrainSession(model, {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: setting.optimizer === 'sgd' ? { name: 'sgd', momentum: MOMENTUM } : { name: 'adamw' },
    groups: [{ parameters: parameters.map(({ name }) => name), weight_decay: 1e-4 }],
    schedule: { name: 'constant', lr: LEARNING_RATE[setting.optimizer] },
    channels_last: setting.channelsLast,
    flush_denormal: true,
    threads: setting.threads,
  });
  const count = parameters.reduce((sum, { tensor }) => sum + tensor.shape.reduce((n, d) => n * d, 1), 0);
  return { session, parameters: count };
}

function makeBatches(): Record<string, NativeTensor>[] {
  const { Tensor } = loadAddon();
  const size = setting.shape.reduce((product, n) => product * n, 1);
  const rows = setting.shape[0]!;
  return Array.from({ length: BATCHES }, () => ({
    image: Tensor.fromTypedArray(
      Float32Array.from({ length: size }, () => 2 * Math.random() - 1),
      [...setting.shape],
    ),
    label: Tensor.fromTypedArray(
      BigInt64Array.from({ length: rows }, () => BigInt(Math.floor(Math.random() * setting.classes))),
      [rows],
    ),
  }));
}

const { session, parameters } = makeSession();
const batches = makeBatches();
let next = 0;

async function runSteps(count: number): Promise<{ milliseconds: number[]; cpu: number; loss: number }> {
  // As a training run does it: a native loop over batches that are there, in pieces so that there is a median.
  const milliseconds: number[] = [];
  let loss = NaN;
  const piece = Math.max(1, Math.round(count / 20));
  const before = process.cpuUsage();
  for (let done = 0; done < count;) {
    const steps = Math.min(piece, count - done);
    const source = Array.from({ length: steps }, () => batches[next++ % BATCHES]!);
    const result = await session.run(source, {
      steps,
      onEvent: ({ losses }) => {
        loss = losses.at(-1) ?? loss;
      },
    });
    milliseconds.push((1000 * result.seconds) / steps);
    done += steps;
  }
  const { user, system } = process.cpuUsage(before);
  return { milliseconds, cpu: (user + system) / 1000 / count, loss };
}

function peakBytes(): number {
  return Number(/VmHWM:\s*(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
}

function say(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

say({ torch: loadAddon().systemInfo().torch_version, parameters });
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as { run?: number; memory?: boolean };
  say(request.run === undefined ? { bytes: peakBytes() } : await runSteps(request.run));
}
session.dispose();
