/**
 * Trains a model with two branches and two inputs, with a loss and a metric of its own, on generated data:
 *
 *   node examples/two_branch.mjs
 *
 * Each sample is a small picture and a row of a table. The picture says which half is bright, the table whether it
 * was taken by day or by night; the class needs both. It takes a few seconds on a CPU.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { memoryData, Model, nn, Tensor, Trainer } from 'fornax';

const { functional: F } = nn;
const SIZE = 16;
const CLASSES = ['left by day', 'left by night', 'right by day', 'right by night'];

/** Samples one after another; any generator, array or asynchronous stream will do. */
function* samples(count, seed) {
  // A small generator of random numbers (mulberry32), so that every run sees the same data.
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < count; i++) {
    const right = random() < 0.5;
    const night = random() < 0.5;
    const pixels = new Uint8Array(SIZE * SIZE * 3);
    for (let p = 0; p < pixels.length; p++) {
      const column = Math.floor(p / 3) % SIZE;
      const bright = column >= SIZE / 2 === right;
      pixels[p] = (bright ? 110 : 70) + 90 * random();
    }
    yield {
      image: { data: pixels, shape: [SIZE, SIZE, 3] },
      table: [night ? 1 : -1, random(), random()].map((value) => value + 2.2 * (random() - 0.5)),
      label: 2 * Number(right) + Number(night),
    };
  }
}

/** A convolutional branch for the picture, a linear one for the table, and a head over both. */
class TwoBranches extends nn.Module {
  constructor(columns, classes) {
    super();
    this.conv1 = new nn.Conv2d(3, 8, 3, { padding: 1, bias: false });
    this.norm1 = new nn.BatchNorm2d(8);
    this.conv2 = new nn.Conv2d(8, 16, 3, { stride: 2, padding: 1, bias: false });
    this.norm2 = new nn.BatchNorm2d(16);
    this.hidden = new nn.Linear(columns, 16);
    this.dropout = new nn.Dropout(0.1);
    this.head = new nn.Linear(16 * 4 + 16, classes);
    // A second answer, from the picture alone: left or right.
    this.side = new nn.Linear(16 * 4, 2);
  }

  forward(image, table) {
    const first = F.relu(this.norm1.forward(this.conv1.forward(image)));
    const second = F.relu(this.norm2.forward(this.conv2.forward(first)));
    const picture = F.adaptiveAvgPool2d(second, 2).flatten(1);
    const row = F.relu(this.hidden.forward(table));
    const both = this.dropout.forward(nn.cat([picture, row], 1));
    return { output: this.head.forward(both), side: this.side.forward(picture) };
  }
}

const data = await memoryData({ train: samples(768, 1), val: samples(256, 2), classes: CLASSES });

// The inputs are named like the fields of the data.
const model = Model.create(new TwoBranches(3, CLASSES.length), {
  inputs: [
    { name: 'image', shape: [2, 3, SIZE, SIZE] },
    { name: 'table', shape: [2, 3] },
  ],
  labels: CLASSES,
});
console.log(model.summary());

const folder = await mkdtemp(path.join(tmpdir(), 'fornax-two-branch-'));
const trainer = new Trainer({
  model,
  data,
  folder: path.join(folder, 'run'),
  device: 'auto',
  train: { epochs: 4, batchSize: 32, lr: 0.01, optimizer: 'adamw', schedule: { name: 'one_cycle' } },
  // Traced once, over the model's outputs and the fields of a batch; computed natively afterwards.
  loss: ({ output, side, label }) =>
    F.crossEntropy(output, label).add(F.crossEntropy(side, label.ge(2).to('int64')).mul(0.3)),
  metrics: {
    // One number for each sample: the average is a share of the samples.
    side_accuracy: ({ side, label }) => side.argmax(1).eq(label.ge(2).to('int64')),
    // The probability of the right class.
    confidence: ({ output, label }) => F.softmax(output, 1).gather(1, label.unsqueeze(1)).squeeze(1),
  },
  checkpoint: { monitor: 'confidence' },
  callbacks: {
    onSteps: {
      every: 16,
      call: ({ step, loss, learningRate, log }) => {
        console.log(
          `  step ${step}: loss ${loss.toFixed(3)}, learning rate ${learningRate.toExponential(1)}`,
        );
        log({ loss_so_far: loss });
      },
    },
  },
});

for await (const event of trainer.fit()) {
  if (event.type === 'evaluation' && event.epoch !== null) {
    const { side_accuracy: side, confidence } = event.metrics;
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    console.log(
      `epoch ${event.epoch}: top-1 ${percent(event.top1)}, side ${percent(side)}, confidence ${confidence.toFixed(3)}`,
    );
  }
}

// One file holds weights, graph, labels and figures; loading it needs nothing of this script.
const file = path.join(folder, 'two_branch.safetensors');
await model.save(file);
const loaded = await Model.load(file);
const [sample] = samples(1, 3);
const { output } = await loaded.forward({
  image: Tensor.from(sample.image.data, [1, SIZE, SIZE, 3]),
  table: Tensor.from([sample.table]),
});
const [logits] = output.toArray();
const answer = loaded.info.labels[logits.indexOf(Math.max(...logits))];
console.log(`saved and loaded: confidence ${loaded.info.metrics.confidence.toFixed(3)}`);
console.log(`a sample of class "${CLASSES[sample.label]}" is taken for "${answer}"`);

for (const held of [model, loaded, data]) held.dispose();
await rm(folder, { recursive: true });
