/**
 * Goes on with the run whose config comes on stdin until it ends or is killed, and writes a line to stdout whenever
 * another part of it begins: see `Phase` in kill_runs.ts. What has no event of its own is heard of at the methods
 * that do it.
 */
import { writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';

import { CrossEntropyLoss, traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { Module, type Tensor } from '#fornax/nn/index.js';
import { CheckpointStore } from '#fornax/train/checkpoint.js';
import { Evaluator } from '#fornax/train/evaluator.js';
import { trainJob } from '#fornax/train/job.js';
import { RUN_FEATURES, type RunFeature } from '#fornax/train/run_features.js';

import type { KillJob } from './kill_scenarios.js';

const { config, fp16, notFinite, killAt } = JSON.parse(await text(process.stdin)) as KillJob;

class OfSeveralClasses extends Module {
  private readonly crossEntropy = new CrossEntropyLoss();

  forward(output: Tensor, label: Tensor): Tensor {
    const half = label.mul(0.5);
    const variance = half.sub(half.mean()).pow(2).mean();
    return this.crossEntropy.forward(output, label).mul(variance.div(variance));
  }
}

let visits = 0;

function mark(phase: string): void {
  writeSync(1, `${phase}\n`);
  if (phase !== killAt?.phase || ++visits < killAt.visit) return;
  process.kill(process.pid, 'SIGKILL');
}

/** Marks where a method begins and ends, by its first argument. */
function around<Owner extends object>(
  owner: Owner,
  name: keyof Owner & string,
  marks: (first: unknown) => [begin: string, end?: string],
): void {
  const methods = owner as Record<string, (...args: unknown[]) => Promise<unknown>>;
  const method = methods[name]!;
  methods[name] = async function (this: unknown, ...args) {
    const [begin, end] = marks(args[0]);
    mark(begin);
    const result = await method.apply(this, args);
    if (end) mark(end);
    return result;
  };
}

around(CheckpointStore.prototype, 'save', () => ['checkpoint', 'saved']);
// The end: finished weights are evaluated, with no epoch, if they have not been before, and written to the model file.
around(Model.prototype, 'save', () => ['finish']);
around(Evaluator.prototype, 'evaluate', (epoch) =>
  epoch === null ? ['finish'] : ['evaluation', 'evaluated'],
);

if (fp16) {
  // The configuration allows fp16 on CUDA alone; the native core computes it anywhere. So large a scale overflows,
  // and so short an interval grows again: steps are skipped.
  const feature: RunFeature = {
    prepare: ({ session }) => {
      session.amp = 'fp16';
      session.scaler = { init_scale: 2 ** 22, growth_interval: 5 };
    },
  };
  (RUN_FEATURES as RunFeature[]).push(feature);
}

if (notFinite) {
  // A batch of a single class has no variance: 0 / 0.
  const loss = traceLoss(new OfSeveralClasses(), ['output', 'label']);
  (RUN_FEATURES as RunFeature[]).push({ prepare: ({ session }) => void (session.loss = loss) });
}

mark('opening');
await trainJob(config, {
  resume: 'auto',
  report: (event) => {
    if (event.type === 'start') mark('steps');
    if (event.type === 'info' && event.message.startsWith('Recomputing BatchNorm')) mark('batch norm');
  },
});
