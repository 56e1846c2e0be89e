/**
 * Trains one model after another in this process (node --expose-gc): ones that end, ones that are left, ones that
 * fail. Arguments: what becomes of them, and how many. Prints the resident set after each in MiB, and how many of the
 * trainers and models are still there at the end.
 */
import { Model } from '#fornax/model.js';
import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  functional as F,
  Linear,
  Module,
  type Tensor,
} from '#fornax/nn/index.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

class Net extends Module {
  readonly conv: Conv2d;
  readonly norm: BatchNorm2d;
  readonly pool = new AdaptiveAvgPool2d(1);
  readonly wide: Linear;
  readonly head: Linear;

  constructor(width: number) {
    super();
    this.conv = new Conv2d(3, width, 3, { padding: 1 });
    this.norm = new BatchNorm2d(width);
    // Megabytes of weights: a model that stays shows.
    this.wide = new Linear(width, 64 * width);
    this.head = new Linear(64 * width, 2);
  }

  forward(image: Tensor): Tensor {
    const features = this.pool.forward(F.relu(this.norm.forward(this.conv.forward(image)))).flatten(1);
    return this.head.forward(F.relu(this.wide.forward(features)));
  }
}

const [kind = 'done', count = '20'] = process.argv.slice(2);

/** Of the whole process: trainers must take their listeners off. */
const shared = new AbortController();
const made: WeakRef<object>[] = [];

/** Sizes differ, and come again. */
async function trainOne(round: number): Promise<void> {
  const width = [32, 96, 64, 128][round % 4]!;
  const side = [16, 24][round % 2]!;
  const samples = 64;
  using data = await memoryData({
    train: {
      image: {
        data: new Float32Array(samples * 3 * side * side).fill(round),
        shape: [samples, 3, side, side],
      },
      label: Array.from({ length: samples }, (_, i) => i % 2),
    },
    valFraction: 0.25,
  });
  using model = Model.create(new Net(width), { seed: round, inputs: [[2, 3, side, side]] });
  const options: TrainerOptions = {
    model,
    data,
    device: 'cpu',
    // `auto` measures convolutions, which takes a while.
    train: {
      epochs: 2,
      batchSize: 16,
      lr: 0.01,
      optimizer: 'adamw',
      ema: {},
      amp: round % 5 === 4 ? 'auto' : 'off',
    },
    metrics: { accuracy: ({ output, label }) => output!.argmax(1).eq(label!) },
    callbacks: {
      onSteps: {
        every: 2,
        call: ({ step, log }) => {
          log({ step });
          if (kind === 'callback' && step === 4) throw new Error('as asked');
        },
      },
    },
    ...(kind === 'loss' && {
      loss: ({ output }) => F.crossEntropy(output!, output!.mul(1e30).to('int64').amax(1)),
    }),
  };
  const trainer = new Trainer(options);
  made.push(new WeakRef(trainer), new WeakRef(model));
  try {
    for await (const { type } of trainer.fit({ signal: shared.signal }))
      if (kind === 'left' && type === 'epoch') break;
  } catch (error) {
    if (kind !== 'callback' && kind !== 'loss') throw error;
  }
}

const resident: number[] = [];
for (let round = 0; round < Number(count); round++) {
  await trainOne(round);
  // Handles whose finalizers have run are gone; twice, as finalizers run after the first.
  for (let i = 0; i < 2; i++) {
    globalThis.gc!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  resident.push(process.memoryUsage().rss / 2 ** 20);
}
const alive = made.filter((reference) => reference.deref() !== undefined).length;
process.stdout.write(JSON.stringify({ resident, alive }) + '\n');
