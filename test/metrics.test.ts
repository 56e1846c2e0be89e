/** The native metrics where golden files do not look: ties, absent classes, bad labels, limits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ArgumentError, DataError, DisposedError } from '#fornax/errors.js';
import type { ClassificationResult, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { random } from './support/random.js';

const { Tensor, ClassificationMetrics, SegmentationMetrics } = loadAddon();

const floats = (values: number[], shape: number[]): NativeTensor =>
  Tensor.fromTypedArray(Float32Array.from(values), shape);
const labels = (values: number[], shape = [values.length]): NativeTensor =>
  Tensor.fromTypedArray(BigInt64Array.from(values, BigInt), shape);

async function classify(
  logits: number[][],
  label: number[],
  options: { auroc_bytes?: number; bins?: number } = {},
): Promise<ClassificationResult> {
  const classes = logits[0]!.length;
  const metrics = new ClassificationMetrics({ classes, ...options });
  await metrics.add(floats(logits.flat(), [logits.length, classes]), labels(label));
  const result = await metrics.result();
  metrics.dispose();
  return result;
}

/** The share of rightly ordered pairs by its definition. */
function areaByPairs(scores: number[], positive: boolean[]): number {
  let wins = 0;
  let pairs = 0;
  scores.forEach((s, i) => {
    scores.forEach((r, j) => {
      if (!positive[i] || positive[j]) return;
      pairs++;
      wins += s > r ? 1 : s === r ? 0.5 : 0;
    });
  });
  return wins / pairs;
}

test('AUROC counts pairs, ties as half', async () => {
  const draw = random(3);
  const classes = 19; // more than one block of classes
  // The logit of the label's opposite is the only other one: few values, so that softmax gives many ties.
  const label = Array.from({ length: 150 }, (_, i) => i % classes);
  const logits = label.map((c) => Array.from({ length: classes }, (_, k) => draw(3) + (k === c ? 1 : 0)));
  const { auroc, auroc_per_class } = await classify(logits, label);
  const softmax = logits.map((row) => {
    const powers = row.map(Math.exp);
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((p) => Math.fround(p / sum));
  });
  const expected = Array.from({ length: classes }, (_, c) =>
    areaByPairs(
      softmax.map((row) => row[c]!),
      label.map((l) => l === c),
    ),
  );
  // Rounding may break or make a tie between samples: half a pair of 8 × 142.
  auroc_per_class.forEach((area, c) =>
    assert.ok(Math.abs(area! - expected[c]!) < 3e-3, `${area} ${expected[c]}`),
  );
  assert.ok(Math.abs(auroc! - expected.reduce((a, b) => a + b, 0) / classes) < 1e-3);
  const exact = await classify(
    [
      [1, 0],
      [1, 0],
      [0, 1],
      [1, 0],
    ],
    [0, 0, 1, 1],
  );
  assert.deepEqual(exact.auroc_per_class, [0.75, 0.75]);
});

test('a class without samples is left out of the means', async () => {
  const result = await classify(
    [
      [2, 0, 0],
      [0, 2, 0],
      [2, 0, 0],
    ],
    [0, 1, 1],
  );
  assert.deepEqual(result.auroc_per_class, [0.75, 0.75, null]);
  assert.equal(result.auroc, 0.75);
  assert.deepEqual(result.per_class.support, [1, 2, 0]);
  assert.deepEqual(result.per_class.precision, [0.5, 1, 0]);
  assert.deepEqual(result.per_class.recall, [1, 0.5, 0]);
  assert.equal(result.macro.precision, 0.75);
  assert.equal(result.macro.recall, 0.75);
  assert.equal(result.weighted.recall, 2 / 3);
  assert.deepEqual(result.confusion, [1, 0, 0, 1, 1, 0, 0, 0, 0]);
  // Fewer than five classes: every sample is among all of them.
  assert.equal(result.top5, 1);
});

test('no samples at all', async () => {
  const metrics = new ClassificationMetrics({ classes: 3 });
  await metrics.add(floats([], [0, 3]), labels([]));
  const { samples, top1, cross_entropy, ece, auroc, auroc_per_class } = await metrics.result();
  assert.deepEqual(
    { samples, top1, cross_entropy, ece, auroc, auroc_per_class },
    { samples: 0, top1: 0, cross_entropy: null, ece: 0, auroc: null, auroc_per_class: [] },
  );
});

test('a sure and right model is calibrated, a sure and wrong one is not', async () => {
  assert.equal((await classify([[200, 0]], [0])).ece, 0);
  assert.equal((await classify([[200, 0]], [1])).ece, 1);
  // Half right at 50 %: in one bin they cancel.
  const even = [
    [0, 0],
    [0, 0],
  ];
  assert.equal((await classify(even, [0, 1], { bins: 1 })).ece, 0);
});

test('NaN in the scores shows in the figures that use them', async () => {
  const result = await classify(
    [
      [NaN, 0],
      [0, 1],
      [1, 0],
    ],
    [0, 1, 0],
  );
  assert.ok(Number.isNaN(result.ece));
  assert.ok(Number.isNaN(result.auroc));
  assert.equal(result.samples, 3);
});

test('above its limit of memory AUROC is given up, the rest stays', async () => {
  const rows = [
    [2, 0],
    [0, 2],
  ];
  assert.equal((await classify(rows, [0, 1], { auroc_bytes: 16 })).auroc, 1);
  const limited = await classify(rows, [0, 1], { auroc_bytes: 15 });
  assert.deepEqual([limited.auroc, limited.auroc_per_class, limited.top1], [null, [], 1]);
});

test('bad labels, shapes and options are refused', async () => {
  const metrics = new ClassificationMetrics({ classes: 2 });
  await assert.rejects(metrics.add(floats([1, 2], [1, 2]), labels([2])), (error: DataError) => {
    assert.ok(error instanceof DataError);
    assert.equal(error.what, 'label 2 is outside 0…1');
    return true;
  });
  await assert.rejects(metrics.add(floats([1, 2], [1, 2]), labels([-1])), DataError);
  await assert.rejects(metrics.add(floats([1, 2, 3], [1, 3]), labels([0])), ArgumentError);
  await assert.rejects(metrics.add(floats([1, 2], [1, 2]), labels([0, 1])), ArgumentError);
  await assert.rejects(metrics.add(labels([1, 2], [1, 2]), labels([0])), ArgumentError);
  assert.equal((await metrics.result()).samples, 0);
  assert.throws(() => new ClassificationMetrics({ classes: 0 }), ArgumentError);
  assert.throws(() => new ClassificationMetrics({ classes: 2, bins: 0 }), ArgumentError);
  metrics.dispose();
  metrics.dispose();
  assert.equal(metrics.disposed, true);
  assert.throws(() => {
    void metrics.result();
  }, DisposedError);
});

test('segmentation from logits and from classes agree', async () => {
  // Two pixels of class 1, of which one is found; one of class 0; one that is not labelled.
  const mask = labels([1, 1, 0, 255], [1, 2, 2]);
  const predicted = [1, 0, 0, 1];
  const logits = floats(
    [0, 1, 2].flatMap((c) => predicted.map((p) => (p === c ? 1 : 0))),
    [1, 3, 2, 2],
  );
  const uint8 = Tensor.fromTypedArray(Uint8Array.from(predicted), [1, 2, 2]);
  for (const output of [logits, uint8]) {
    const metrics = new SegmentationMetrics({ classes: 3, ignore_index: 255 });
    await metrics.add(output, mask);
    assert.deepEqual(await metrics.result(), {
      pixels: 3,
      pixel_accuracy: 2 / 3,
      miou: 0.5,
      mean_dice: 2 / 3,
      iou_per_class: [0.5, 0.5, null],
      dice_per_class: [2 / 3, 2 / 3, null],
      classes: 3,
      confusion: [1, 0, 0, 1, 1, 0, 0, 0, 0],
    });
  }
});

test('values of a mask that are no class are refused, or ignored where named', async () => {
  const output = floats([1, 0], [1, 2, 1]);
  const strict = new SegmentationMetrics({ classes: 2 });
  await assert.rejects(strict.add(output, labels([255], [1, 1])), /value 255, outside 0…1/);
  await assert.rejects(strict.add(output, labels([0, 0], [1, 2])), ArgumentError);
  await assert.rejects(strict.add(labels([2], [1, 1]), labels([0], [1, 1])), /predicted class/);
  const negative = new SegmentationMetrics({ classes: 2, ignore_index: -1 });
  await negative.add(output, labels([-1], [1, 1]));
  assert.equal((await negative.result()).pixels, 0);
});

test('lists of predictions and faces that do not fit together are refused', async () => {
  const { widerAveragePrecision } = loadAddon();
  const base = {
    predictions: Float64Array.of(0, 0, 5, 5, 0.5),
    prediction_offsets: Int32Array.of(0, 1),
    faces: Float64Array.of(0, 0, 5, 5),
    face_offsets: Int32Array.of(0, 1),
    settings: [Uint8Array.of(1)],
  };
  const wrong: [Partial<typeof base>, RegExp][] = [
    [{ prediction_offsets: Int32Array.of(0, 2) }, /prediction/],
    [{ face_offsets: Int32Array.of(1, 1) }, /face/],
    [{ face_offsets: Int32Array.of(0, 1, 1) }, /same images/],
    [{ faces: Float64Array.of(0, 0, 5, NaN) }, /finite/],
    [{ settings: [Uint8Array.of(1, 1)] }, /one value for each face/],
  ];
  for (const [change, message] of wrong) {
    await assert.rejects(() => widerAveragePrecision({ ...base, ...change }), message);
  }
});
