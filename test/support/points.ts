/** A small network on points in memory, for tests of the Trainer: dropout and batch norm, two inputs, two outputs. */
import { after, before } from 'node:test';

import { Model } from '#fornax/model.js';
import {
  BatchNorm1d,
  cat,
  Dropout,
  functional as F,
  Linear,
  Module,
  type Tensor as Symbolic,
} from '#fornax/nn/index.js';
import type { JobEvent } from '#fornax/train/events.js';
import { memoryData, type MemoryData, type Sample } from '#fornax/train/memory_data.js';
import type { FitOptions, Trainer } from '#fornax/train/trainer.js';

import { temporaryFolder } from './image_folder.js';
import { random } from './random.js';

/** `left` and `right` [4] each, `label` 0…2, `target` a number. */
export function* pointSamples(count: number, seed = 1): Generator<Sample> {
  const draw = random(seed);
  const next = (): number => draw(1000) / 1000;
  for (let i = 0; i < count; i++) {
    const label = i % 3;
    const left = Float32Array.from({ length: 4 }, () => next() + (label === 1 ? 0.8 : 0));
    const right = Float32Array.from({ length: 4 }, () => next() + (label === 2 ? 0.8 : 0));
    yield { left, right, label, target: label / 2 };
  }
}

export function pointData(train = 96, val = 30): Promise<MemoryData> {
  return memoryData({ train: pointSamples(train), val: pointSamples(val, 2) });
}

export interface PointFiles {
  root: Awaited<ReturnType<typeof temporaryFolder>>;
  data: MemoryData;
}

/** Called at the top level of a test file: makes points and a folder before its tests, and removes them after. */
export function usePoints(use: (made: PointFiles) => void): void {
  let made: PointFiles;
  before(async () => {
    made = { root: await temporaryFolder(), data: await pointData() };
    use(made);
  });
  after(async () => {
    made.data.dispose();
    await made.root[Symbol.asyncDispose]();
  });
}

class Points extends Module {
  readonly left = new Linear(4, 8);
  readonly right = new Linear(4, 8);
  readonly norm = new BatchNorm1d(16);
  readonly dropout = new Dropout(0.2);
  readonly head = new Linear(16, 3);

  forward(left: Symbolic, right: Symbolic): Record<string, Symbolic> {
    const both = F.relu(cat([this.left.forward(left), this.right.forward(right)], 1));
    const hidden = this.dropout.forward(this.norm.forward(both));
    return { output: this.head.forward(hidden), hidden };
  }
}

export function pointModel(seed = 0): Model {
  return Model.create(new Points(), {
    seed,
    inputs: [
      { name: 'left', shape: [2, 4] },
      { name: 'right', shape: [2, 4] },
    ],
  });
}

/** Everything of the model, as text. */
export function weightsOf(model: Model): string {
  return JSON.stringify(model.state().map(({ name, tensor }) => [name, tensor.toArray()]));
}

export async function collect(trainer: Trainer, options: FitOptions = {}): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  for await (const event of trainer.fit(options)) events.push(event);
  return events;
}
