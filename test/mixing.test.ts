/** Mixup and CutMix: what a step makes of its batch, and that the same batch is always mixed alike. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { trace } from '#fornax/graph/trace.js';
import { crossEntropy, traceLoss } from '#fornax/losses/index.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeGraph, NativeTensor, NativeTrain, TrainOptions } from '#fornax/native/contract.js';
import { init, Module, Parameter, type Tensor } from '#fornax/nn/index.js';

import { needsPython, python } from './support/python.js';

/** Gives back its image. */
class Identity extends Module {
  readonly scale = new Parameter([1]);
  constructor() {
    super();
    init.ones(this.scale);
  }
  forward(image: Tensor): Tensor {
    return image.mul(this.scale);
  }
}

/** Σ label · probe: shows what the loss sees of the labels. */
class Probe extends Module {
  forward(output: Tensor, label: Tensor, probe: Tensor): Tensor {
    return label.mul(probe).sum().add(output.sum().mul(0));
  }
}

const [rows, channels, height, width, classes] = [6, 2, 12, 8, 5];
const pixels = height * width;

function graphOf(module: Module): NativeGraph {
  const graph = trace(module, {
    inputs: [{ name: 'image', shape: [rows, channels, height, width] }],
  });
  const model = new (loadAddon().Graph)(graph, { trusted: true });
  model.initialize(0);
  return model;
}

const identity = (): NativeGraph => graphOf(new Identity());

type Mix = Omit<NonNullable<TrainOptions['mix']>, 'classes'>;

function open(model: NativeGraph, mix: Mix, more: Partial<TrainOptions> = {}): NativeTrain {
  return new (loadAddon().TrainSession)(model, {
    device: 'cpu',
    loss: traceLoss(new Probe(), ['output', 'label', 'probe']),
    optimizer: { name: 'sgd' },
    groups: [{ parameters: ['scale'], weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0 },
    seed: 11,
    mix: { classes, ...mix },
    ...more,
  });
}

const image = Float32Array.from({ length: rows * channels * pixels }, (_, i) => Math.sin(i * 1.7) * 2);
const label = [3, 0, 1, 1, 4, 2];
const probe = Float32Array.from({ length: rows * classes }, (_, i) => Math.cos(i * 0.9));

function batch(): Record<string, NativeTensor> {
  const { Tensor } = loadAddon();
  return {
    image: Tensor.fromTypedArray(image, [rows, channels, height, width]),
    label: Tensor.fromTypedArray(BigInt64Array.from(label, BigInt), [rows]),
    probe: Tensor.fromTypedArray(probe, [rows, classes]),
  };
}

interface Mixed {
  images: Float32Array;
  /** Σ label · probe. */
  labels: number;
}

async function step(session: NativeTrain): Promise<Mixed> {
  const given = batch();
  const { loss, outputs } = await session.step(given);
  const images = (outputs['output']!.toTypedArray() as Float32Array).slice();
  for (const tensor of [...Object.values(given), ...Object.values(outputs)]) tensor.dispose();
  return { images, labels: loss };
}

/** timm's mixup_target, probed. */
function probed(lam: number): number {
  let sum = 0;
  for (let n = 0; n < rows; n++) {
    sum += lam * probe[n * classes + label[n]!]!;
    sum += (1 - lam) * probe[n * classes + label[rows - 1 - n]!]!;
  }
  return sum;
}

/** Pixel of the partner of the one at `i`: the batch is reversed. */
function partner(i: number): number {
  const row = Math.floor(i / (channels * pixels));
  return image[(rows - 1 - row) * channels * pixels + (i % (channels * pixels))]!;
}

/** The share of a row itself, by its images. */
function shareOf(images: Float32Array): number {
  return (images[0]! - partner(0)) / (image[0]! - partner(0));
}

function assertNear(actual: number, expected: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what}: ${actual}, expected ${expected}`);
}

/** The box of a batch mixed by CutMix: where the pixels are the partner's. */
function boxOf(images: Float32Array): {
  top: number;
  bottom: number;
  left: number;
  right: number;
  area: number;
} {
  const box = { top: height, bottom: 0, left: width, right: 0, area: 0 };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const places = Array.from({ length: rows * channels }, (_, plane) => plane * pixels + y * width + x);
      const taken = places.every((i) => images[i] === partner(i));
      assert.ok(taken || places.every((i) => images[i] === image[i]), 'a pixel is one of the two');
      if (!taken) continue;
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y + 1);
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x + 1);
      box.area++;
    }
  }
  return box;
}

test('mixup adds up images and labels by the same share', async () => {
  const session = open(identity(), { mixup: 0.4 });
  const shares: number[] = [];
  for (let i = 0; i < 400; i++) {
    const { images, labels } = await step(session);
    const lam = shareOf(images);
    shares.push(lam);
    images.forEach((value, at) =>
      assertNear(value, lam * image[at]! + (1 - lam) * partner(at), 2e-5, `pixel ${at}`),
    );
    assertNear(labels, probed(lam), 2e-5, 'labels');
  }
  session.dispose();
  // Beta(α, α) has the mean 1/2 and the variance 1 / (4 (2 α + 1)).
  const mean = shares.reduce((sum, lam) => sum + lam, 0) / shares.length;
  const variance = shares.reduce((sum, lam) => sum + (lam - mean) ** 2, 0) / shares.length;
  assertNear(mean, 0.5, 0.07, 'mean');
  assertNear(variance, 1 / (4 * 1.8), 0.02, 'variance');
});

test('cutmix takes a box of the partner, and labels by what is left of the area', async () => {
  const session = open(identity(), { cutmix: 1 });
  const areas: number[] = [];
  for (let i = 0; i < 300; i++) {
    const { images, labels } = await step(session);
    const { top, bottom, left, right, area } = boxOf(images);
    areas.push(area / pixels);
    assertNear(labels, probed(1 - area / pixels), 2e-5, 'labels');
    if (area === 0) continue;
    assert.equal(area, (bottom - top) * (right - left), 'the box is a rectangle');
    const inside = top > 0 && left > 0 && bottom < height && right < width;
    if (!inside) continue;
    // rand_bbox: both sides are the same share of the image's, rounded down.
    const [from, to] = [(bottom - top) / height, (bottom - top + 1) / height];
    assert.ok(Math.floor(from * width) <= right - left && right - left <= Math.ceil(to * width), 'its shape');
  }
  session.dispose();
  assert.ok(areas.some((area) => area < 0.1) && areas.some((area) => area > 0.5), 'boxes of all sizes');
});

test('the probabilities say how often which is done, and for how long', async () => {
  const count = async (mix: Mix, steps = 300): Promise<{ none: number; cut: number; sum: number }> => {
    const session = open(identity(), mix);
    const counts = { none: 0, cut: 0, sum: 0 };
    for (let i = 0; i < steps; i++) {
      const { images, labels } = await step(session);
      if (images.every((value, at) => value === image[at])) {
        counts.none++;
        assertNear(labels, probed(1), 1e-5, 'labels of what is not mixed');
      } else if (images.every((value, at) => value === image[at] || value === partner(at))) counts.cut++;
      else counts.sum++;
    }
    session.dispose();
    return counts;
  };
  const { none, cut, sum } = await count({ mixup: 1, cutmix: 1, prob: 0.6, switch_prob: 0.25 });
  assertNear(none / 300, 0.4, 0.1, 'not mixed');
  assertNear(cut / (cut + sum), 0.25, 0.1, 'cutmix');
  const ended = await count({ mixup: 1, steps: 4 }, 10);
  assert.deepEqual(ended, { none: 6, cut: 0, sum: 4 });
  assert.deepEqual(await count({ mixup: 1, prob: 0 }, 5), { none: 5, cut: 0, sum: 0 });
});

test('step and position alone decide: a resumed session mixes alike, parts of a batch too', async () => {
  const mix = { mixup: 0.8, cutmix: 1 };
  const first = open(identity(), mix);
  const all: Mixed[] = [];
  for (let i = 0; i < 6; i++) all.push(await step(first));
  const saved = first.snapshot();
  first.dispose();
  assert.notDeepEqual(all[0]!.images, all[1]!.images);
  // Not the number of steps of the session, but that of the run.
  const resumed = open(identity(), mix);
  resumed.restore(saved, 3);
  for (const expected of all.slice(3)) assert.deepEqual(await step(resumed), expected);
  resumed.dispose();
  for (const tensor of Object.values(saved)) tensor.dispose();
  const other = open(identity(), mix, { seed: 12 });
  assert.notDeepEqual((await step(other)).images, all[0]!.images);
  other.dispose();
  // Micro-batches that memory demands are parts of the batch that was mixed.
  const split = open(identity(), mix, { micro_batch: 4 });
  for (const expected of all.slice(0, 3)) {
    const { images, labels } = await step(split);
    assert.deepEqual(images, expected.images);
    assertNear(labels, expected.labels / 2, 1e-5, 'the mean of the sums over both halves');
  }
  split.dispose();
  // Batches of one step (grad_accum) are each mixed on their own.
  const accumulated = open(identity(), { mixup: 1 }, { grad_accum: 2 });
  const { images } = await step(accumulated);
  const half = (rows / 2) * channels * pixels;
  const share = (from: number): number => {
    const i = from + channels * pixels; // the middle row is its own partner
    assert.ok(Math.abs(images[i]! - image[i]!) < 1e-6);
    return (
      (images[from]! - image[from + 2 * channels * pixels]!) /
      (image[from]! - image[from + 2 * channels * pixels]!)
    );
  };
  assert.notEqual(share(0).toFixed(3), share(half).toFixed(3));
  accumulated.dispose();
});

test('a teacher sees the mixed images', async () => {
  class Difference extends Module {
    forward(output: Tensor, teacher: Tensor): Tensor {
      return output.sub(teacher).abs().sum();
    }
  }
  for (const mix of [{ mixup: 1 }, { cutmix: 1 }]) {
    const teacher = identity();
    const loss = traceLoss(new Difference(), ['output', 'teacher']);
    const session = open(identity(), mix, { loss, teacher: { graph: teacher } });
    for (let i = 0; i < 5; i++) assert.equal((await step(session)).labels, 0);
    session.dispose();
  }
});

test('what cannot be mixed is refused', async () => {
  assert.throws(() => open(identity(), {}), /mixup must be above 0 where cutmix is 0/);
  assert.throws(() => open(identity(), { mixup: 1, prob: 2 }), /prob must be between 0 and 1/);
  const session = open(identity(), { mixup: 1 }, { loss: crossEntropy() });
  const { label: _, probe: __, ...unlabelled } = batch();
  await assert.rejects(session.step(unlabelled), {
    name: 'DataError',
    message: /need the class of each row/,
  });
  session.dispose();
});

/** timm's Mixup with the share and the box given. */
const TIMM = `
import json, sys, torch
import timm.data.mixup as timm_mixup
given = json.loads(sys.argv[1])
out = []
for case in given['cases']:
    timm_mixup.rand_bbox = lambda *_, **__: tuple(case['box'])
    mixup = timm_mixup.Mixup(1, 1, label_smoothing=given['smoothing'], num_classes=given['classes'])
    mixup._params_per_batch = lambda: (case['lam'], case['cut'])
    x, y = mixup(torch.tensor(given['image']).reshape(given['shape']), torch.tensor(given['label']))
    out.append({'image': x.flatten().tolist(), 'label': y.flatten().tolist()})
json.dump(out, sys.stdout)
`;

/** Some of the pixels as logits, so that the loss has the mixed images in it. */
class FirstPixels extends Identity {
  override forward(image: Tensor): Tensor {
    return super.forward(image).flatten(1).narrow(1, 0, classes);
  }
}

test('images, labels and loss are timm’s', { skip: needsPython('timm') }, async () => {
  const labelSmoothing = 0.1;
  const model = graphOf(new FirstPixels());
  const cases: { lam: number; cut: boolean; box: number[]; images: Float32Array; loss: number }[] = [];
  for (const mix of [{ mixup: 1 }, { cutmix: 1 }]) {
    const shown = open(identity(), mix);
    const session = open(model, mix, { loss: crossEntropy({ labelSmoothing }) });
    for (let i = 0; i < 5; i++) {
      const { images } = await step(shown);
      const { labels: loss } = await step(session);
      const cut = 'cutmix' in mix;
      const { top, bottom, left, right } = cut ? boxOf(images) : { top: 0, bottom: 0, left: 0, right: 0 };
      // Of a box, timm corrects the share that it is given.
      cases.push({ lam: cut ? 0.5 : shareOf(images), cut, box: [top, bottom, left, right], images, loss });
    }
    shown.dispose();
    session.dispose();
  }
  const given = {
    cases: cases.map(({ lam, cut, box }) => ({ lam, cut, box })),
    smoothing: labelSmoothing,
    classes,
    label,
    image: [...image],
    shape: [rows, channels, height, width],
  };
  const answers = python<{ image: number[]; label: number[] }[]>(TIMM, [JSON.stringify(given)]);
  answers.forEach((expected, k) => {
    const { images, loss } = cases[k]!;
    images.forEach((value, i) => assertNear(value, expected.image[i]!, 1e-5, `pixel ${i}`));
    let sum = 0;
    for (let n = 0; n < rows; n++) {
      const logits = expected.image.slice(n * channels * pixels, n * channels * pixels + classes);
      const log = Math.log(logits.reduce((total, x) => total + Math.exp(x), 0));
      logits.forEach((x, c) => (sum -= expected.label[n * classes + c]! * (x - log)));
    }
    assertNear(loss, sum / rows, 1e-5, 'loss');
  });
});
