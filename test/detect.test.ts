/** Anchors, matching, decoding and suppression against plain implementations of their definitions. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { detectFaces, faceAnchors, FaceDecoder } from '#fornax/detect/index.js';
import { ArgumentError, ExecutionError, WeightsError } from '#fornax/errors.js';
import { Model } from '#fornax/model.js';
import { Tensor } from '#fornax/tensor.js';
import { fillInput, fillUnit } from './conformance/fill.js';
import { batchOf, type FaceBatch } from './support/face_batch.js';
import { rgbPixels, temporaryFolder } from './support/images.js';

const { min_sizes: minSizes, steps } = faceAnchors;
const f = Math.fround;

/** [cx, cy, w, h] of every anchor, as in the original's loops. */
function plainPriors(height: number, width: number): number[][] {
  const priors: number[][] = [];
  for (const [k, step] of steps.entries()) {
    for (let i = 0; i < Math.ceil(height / step); i++) {
      for (let j = 0; j < Math.ceil(width / step); j++) {
        for (const size of minSizes[k]!) {
          const center = [((j + 0.5) * step) / width, ((i + 0.5) * step) / height];
          priors.push([...center, size / width, size / height].map(f));
        }
      }
    }
  }
  return priors;
}

function priorBoxes(height: number, width: number): Tensor {
  return Tensor.call('fornax::prior_boxes', Tensor.zeros([1]), height, width, minSizes.flat(), steps)[0]!;
}

function rows(tensor: Tensor, width: number): number[][] {
  const values = Array.from(tensor.toTypedArray() as Float32Array);
  return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
}

describe('anchors', () => {
  for (const [height, width] of [
    [640, 640],
    [683, 1024],
    [33, 7],
  ] as const) {
    test(`of an image of ${height}×${width} are the original's to the last bit`, () => {
      assert.deepEqual(rows(priorBoxes(height, width), 4), plainPriors(height, width));
    });
  }

  test('need an image and positive sizes', () => {
    const like = Tensor.zeros([1]);
    assert.throws(() => Tensor.call('fornax::prior_boxes', like, 0, 8, [16], [8]), ExecutionError);
    assert.throws(() => Tensor.call('fornax::prior_boxes', like, 8, 8, [16, -1], [8]), ExecutionError);
    assert.throws(
      () => Tensor.call('fornax::prior_boxes', like, 8, 8, [16, 32, 64], [8, 16]),
      ExecutionError,
    );
    assert.throws(() => Tensor.call('fornax::prior_boxes', like, 1e7, 1e7, [16], [1]), ExecutionError);
  });
});

/** Intersection over union in float32, as torch computes it. */
function overlap(a: readonly number[], b: readonly number[]): number {
  const w = Math.max(0, f(Math.min(a[2]!, b[2]!) - Math.max(a[0]!, b[0]!)));
  const h = Math.max(0, f(Math.min(a[3]!, b[3]!) - Math.max(a[1]!, b[1]!)));
  const area = (box: readonly number[]): number => f(f(box[2]! - box[0]!) * f(box[3]! - box[1]!));
  const shared = f(w * h);
  return f(shared / f(f(area(a) + area(b)) - shared));
}

/** The original's match(): the label of every anchor and the face it belongs to. */
function plainMatch(
  priors: number[][],
  boxes: number[][],
  labels: number[],
  threshold: number,
): [number, number][] {
  const corners = priors.map(([x, y, w, h]) => [
    f(x! - w! / 2),
    f(y! - h! / 2),
    f(x! + w! / 2),
    f(y! + h! / 2),
  ]);
  const table = boxes.map((box) => corners.map((corner) => overlap(box, corner)));
  const best = table.map((row) => row.indexOf(Math.max(...row)));
  const valid = best.filter((p, i) => table[i]![p]! >= f(0.2));
  if (valid.length === 0) return priors.map(() => [0, 0]);
  const matched = priors.map((_, p): [number, number] => {
    const column = table.map((row) => row[p]!);
    const face = column.indexOf(Math.max(...column));
    return [column[face]!, face];
  });
  for (const p of valid) matched[p]![0] = 2;
  for (const [i, p] of best.entries()) {
    const [x1, y1, x2, y2] = boxes[i]! as [number, number, number, number];
    // The one deviation: the target of a face without area would be the logarithm of 0.
    if (x2 > x1 && y2 > y1) matched[p]![1] = i;
  }
  return matched.map(([share, face]) => [share < f(threshold) ? 0 : labels[face]!, face]);
}

/** Faces of many sizes, some beyond the edges. */
function someFaces(count: number, t: number): number[][] {
  return Array.from({ length: count }, (_, i) => {
    const [x, y, size, aspect] = [0, 1, 2, 3].map((k) => fillUnit(i * 4 + k, t)) as [
      number,
      number,
      number,
      number,
    ];
    const w = 0.02 + 0.5 * size ** 2;
    return [x - w / 2, y - w / 2, x + w / 2, y + w * (0.5 + aspect) * 0.7].map(f);
  });
}

function match(loc: Tensor, priors: Tensor, batch: FaceBatch, threshold = 0.35): Tensor[] {
  const { face_boxes: boxes, face_landmarks: points, face_labels: labels, face_offsets: offsets } = batch;
  return Tensor.call(
    'fornax::match_priors',
    loc,
    priors,
    boxes,
    points,
    labels,
    offsets,
    threshold,
    [0.1, 0.2],
  );
}

describe('target matching', () => {
  const [height, width] = [160, 224];
  const priors = plainPriors(height, width);

  test('gives every anchor of a ragged batch the face that the definition gives it', () => {
    const [x, y, w, h] = priors[0]! as [number, number, number, number];
    // A face of the first anchor, and a later one far outside the image: nothing overlaps it, so it takes that anchor.
    const first = [x - w / 2, y - h / 2, x + w / 2, y + h / 2].map(f);
    const outside = [first, someFaces(1, 2)[0]!, [2.75, 2.75, 3, 2.875]];
    assert.equal(plainMatch(priors, outside, [1, 1, 1], 0.35)[0]![1], 2);
    const images = [someFaces(23, 1), [], someFaces(1, 2), someFaces(60, 3), outside];
    const labelOf = (i: number): number => (i % 3 === 2 ? -1 : 1);
    const loc = Tensor.zeros([images.length, priors.length, 4]);
    const [locTarget, conf, landm] = match(loc, priorBoxes(height, width), batchOf(images, labelOf));
    const labels = Array.from(conf!.toTypedArray() as BigInt64Array, Number);
    const [boxes, points] = [rows(locTarget!, 4), rows(landm!, 10)];
    let offset = 0;
    let positives = 0;
    for (const [n, faces] of images.entries()) {
      const expected = plainMatch(
        priors,
        faces,
        faces.map((_, i) => labelOf(offset + i)),
        0.35,
      );
      for (const [p, [label, face]] of expected.entries()) {
        const at = n * priors.length + p;
        assert.equal(labels[at], label, `image ${n}, anchor ${p}`);
        if (label === 0) continue;
        positives++;
        const [x1, y1, x2, y2] = faces[face]! as [number, number, number, number];
        const [cx, cy, w, h] = priors[p]! as [number, number, number, number];
        const wanted = [((x1 + x2) / 2 - cx) / (0.1 * w), ((y1 + y2) / 2 - cy) / (0.1 * h)];
        wanted.push(Math.log((x2 - x1) / w) / 0.2, Math.log((y2 - y1) / h) / 0.2);
        const isClose = (a: number, b: number): boolean => Math.abs(a - b) < 1e-4 * Math.max(1, Math.abs(b));
        for (const k of [0, 1, 2, 3]) assert.ok(isClose(boxes[at]![k]!, wanted[k]!), `${at}.${k}`);
        const nose = (x1 + 0.5 * (x2 - x1) - cx) / (0.1 * w);
        assert.ok(isClose(points[at]![4]!, nose));
      }
      offset += faces.length;
    }
    assert.ok(positives > 100, `${positives} positives`);
  });

  test('matches a face without area with nothing, and lets it spoil nothing', () => {
    // The first anchor of all is a positive one of the first face.
    const [first] = priors as [[number, number, number, number]];
    const [x, y, w, h] = first;
    const real = [x - w / 2, y - h / 2, x + w / 2, y + h / 2];
    const point = [0.5, 0.5, 0.5, 0.5];
    const loc = Tensor.zeros([1, priors.length, 4]);
    const alone = match(loc, priorBoxes(height, width), batchOf([[real]]));
    const beside = match(loc, priorBoxes(height, width), batchOf([[real, point]]));
    for (const [i, tensor] of alone.entries())
      assert.deepEqual(beside[i]!.toTypedArray(), tensor.toTypedArray());
    assert.equal(Number((alone[1]!.toTypedArray() as BigInt64Array)[0]), 1);
    const nothing = match(loc, priorBoxes(height, width), batchOf([[point]]));
    assert.ok((nothing[1]!.toTypedArray() as BigInt64Array).every((label) => label === 0n));
  });

  test('refuses boxes that are none, offsets that do not fit and outputs for another size', () => {
    const table = priorBoxes(height, width);
    const loc = Tensor.zeros([2, priors.length, 4]);
    const good = batchOf([someFaces(2, 1), someFaces(1, 2)]);
    assert.doesNotThrow(() => match(loc, table, good));
    const inverted = batchOf([[[0.3, 0.2, 0.2, 0.4]], []]);
    assert.throws(() => match(loc, table, inverted), /box of face 0 of the batch is none/);
    const nan = batchOf([[], [[0.2, NaN, 0.3, 0.4]]]);
    assert.throws(() => match(loc, table, nan), /is none/);
    for (const offsets of [
      [0, 2],
      [0, 3, 2],
      [1, 2, 3],
      [0, 1, 2],
      [0, 1, 2, 3],
    ]) {
      const spoilt = { ...good, face_offsets: Tensor.from(BigInt64Array.from(offsets, BigInt)) };
      assert.throws(() => match(loc, table, spoilt), /offset/, JSON.stringify(offsets));
    }
    assert.throws(() => match(Tensor.zeros([2, 7, 4]), table, good), /another size/);
    const labels = { ...good, face_labels: Tensor.from(BigInt64Array.of(1n)) };
    assert.throws(() => match(loc, table, labels), /labels \[F\]/);
  });
});

/** Boxes, scores and landmarks of one image by the definition, in double. */
function plainDetections(
  outputs: Record<'loc' | 'conf' | 'landm', number[][]>,
  size: number[],
  limits: number[],
): number[][] {
  const [height, width] = size as [number, number];
  const [confidence, nms, topK, keepTopK] = limits as [number, number, number, number];
  const decoded = plainPriors(height, width).map(([cx, cy, w, h], p) => {
    const [dx, dy, dw, dh] = outputs.loc[p]! as [number, number, number, number];
    const [background, face] = outputs.conf[p]! as [number, number];
    const [bw, bh] = [w! * Math.exp(dw * 0.2), h! * Math.exp(dh * 0.2)];
    const [x, y] = [cx! + dx * 0.1 * w! - bw / 2, cy! + dy * 0.1 * h! - bh / 2];
    const points = outputs.landm[p]!.map((v, k) =>
      k % 2 === 0 ? (cx! + v * 0.1 * w!) * width : (cy! + v * 0.1 * h!) * height,
    );
    const score = 1 / (1 + Math.exp(background - face));
    return [x * width, y * height, (x + bw) * width, (y + bh) * height, score, ...points];
  });
  let left = decoded
    .filter((row) => row[4]! > confidence)
    .sort((a, b) => b[4]! - a[4]!)
    .slice(0, topK);
  const area = (b: number[]): number => (b[2]! - b[0]! + 1) * (b[3]! - b[1]! + 1);
  const kept: number[][] = [];
  while (left.length > 0) {
    const [best, ...others] = left as [number[], ...number[][]];
    kept.push(best);
    left = others.filter((b) => {
      const w = Math.max(0, Math.min(best[2]!, b[2]!) - Math.max(best[0]!, b[0]!) + 1);
      const h = Math.max(0, Math.min(best[3]!, b[3]!) - Math.max(best[1]!, b[1]!) + 1);
      return (w * h) / (area(best) + area(b) - w * h) <= nms;
    });
  }
  return kept.slice(0, keepTopK);
}

describe('decoding', () => {
  const size = [96, 136];
  const priors = plainPriors(96, 136).length;
  const random = (width: number, t: number): Tensor =>
    Tensor.from(fillInput(2 * priors * width, t), [2, priors, width]);
  const outputs = { loc: random(4, 1), conf: random(2, 2), landm: random(10, 3) };
  const images = Tensor.zeros([2, ...size, 3], { dtype: 'uint8' });

  test('finds what the definition finds, in each image of a batch', async () => {
    for (const limits of [
      [0.02, 0.4, 5000, 750],
      [0.6, 0.3, 100, 20],
      [0.5, 0.9, 40, 750],
    ]) {
      const [confidence, nms, topK, keepTopK] = limits as [number, number, number, number];
      using decoder = new FaceDecoder(faceAnchors, { confidence, nms, topK, keepTopK });
      const found = await decoder.decode(images, outputs);
      assert.equal(found.length, 2);
      for (const [n, { faces }] of found.entries()) {
        const of = (tensor: Tensor, width: number): number[][] =>
          rows(tensor, width).slice(n * priors, (n + 1) * priors);
        const { loc, conf, landm } = outputs;
        const expected = plainDetections(
          { loc: of(loc, 4), conf: of(conf, 2), landm: of(landm, 10) },
          size,
          limits,
        );
        assert.equal(faces.length, expected.length, JSON.stringify(limits));
        for (const [i, face] of faces.entries()) {
          const values = [...face.box, face.score, ...face.landmarks.flat()];
          for (const [k, value] of values.entries()) {
            assert.ok(Math.abs(value - expected[i]![k]!) < 1e-3, `${i}.${k}: ${value}, ${expected[i]![k]}`);
          }
        }
      }
    }
  });

  test('gives nothing where nothing is above the threshold, and counts the candidates', async () => {
    using none = new FaceDecoder(faceAnchors, { confidence: 1 });
    assert.deepEqual((await none.decode(images, outputs))[0], { faces: [], candidates: 0 });
    using all = new FaceDecoder(faceAnchors, { confidence: 0, keepTopK: 3 });
    const [first] = await all.decode(images, outputs);
    assert.deepEqual([first!.candidates, first!.faces.length], [priors, 3]);
  });

  test('refuses options out of range and outputs of another size', async () => {
    for (const options of [
      { confidence: 1.5 },
      { nms: -0.1 },
      { topK: 0 },
      { keepTopK: 2.5 },
      { nms: NaN },
    ]) {
      assert.throws(() => new FaceDecoder(faceAnchors, options), ArgumentError, JSON.stringify(options));
    }
    using decoder = new FaceDecoder(faceAnchors);
    await assert.rejects(
      decoder.decode(Tensor.zeros([2, 104, 136, 3], { dtype: 'uint8' }), outputs),
      ExecutionError,
    );
    await assert.rejects(decoder.decode(images, { loc: outputs.loc }), ArgumentError);
  });
});

describe('a face detector', () => {
  test('sees blue, green, red minus Caffe’s means, whatever way the pixels come', async () => {
    using model = Model.create('retinaface_mobilenet025', { inputs: [[1, 3, 40, 56]] });
    const pixels = rgbPixels(40, 56, (y, x, c) => (y * 37 + x * 11 + c * 71) % 256);
    const means = [104, 117, 123];
    const planes = means.flatMap((mean, k) =>
      Array.from({ length: 40 * 56 }, (_, i) => pixels[i * 3 + (2 - k)]! - mean),
    );
    const raw = await model.forward(Tensor.from(Float32Array.from(planes), [1, 3, 40, 56]));
    const preprocessed = await model.forward(Tensor.from(new Uint8Array(pixels), [1, 40, 56, 3]));
    for (const name of ['loc', 'conf', 'landm']) {
      const [a, b] = [raw[name]!, preprocessed[name]!].map((t) => t.toTypedArray() as Float32Array);
      assert.ok(
        a!.every((value, i) => Math.abs(value - b![i]!) <= 2e-5 * Math.max(1, Math.abs(value))),
        name,
      );
    }
  });

  test('states in its file how images go in and boxes come out; a file that contradicts itself is refused', async () => {
    const file = path.join(temporaryFolder(), 'face.safetensors');
    using model = Model.create('featherface', { inputs: [[1, 3, 64, 64]] });
    await model.save(file);
    using loaded = await Model.load(file);
    assert.deepEqual(loaded.info.detection, faceAnchors);
    const { channel_order: order, resize, size } = loaded.info.preprocessing!;
    assert.deepEqual([order, resize, size], ['bgr', null, null]);
    const { preprocessing, detection } = model.info;
    const wrong: object[] = [
      { preprocessing: { ...preprocessing, size: [64, 64] } },
      { preprocessing: { ...preprocessing, channel_order: 'gbr' } },
      { detection: { ...detection, steps: [8, 16] } },
      { detection: { ...detection, min_sizes: [[16, 32], [64], [256, 512]] } },
      { detection: { ...detection, variances: [0.1, 0] } },
    ];
    for (const change of wrong) {
      const load = model.save(file, change).then(() => Model.load(file));
      await assert.rejects(load, WeightsError, JSON.stringify(change));
    }
  });

  test('takes pixels as a tensor, and nothing else that is none', async () => {
    using model = Model.create('featherface_eca_cbam', { inputs: [[1, 3, 40, 56]] });
    const pixels = Tensor.from(new Uint8Array(rgbPixels(40, 56, (y, x) => (y * x) % 256)), [40, 56, 3]);
    const faces = await detectFaces(model, pixels, { confidence: 0, keepTopK: 4 });
    assert.equal(faces.length, 4);
    assert.ok(faces.every(({ landmarks, box }) => landmarks.length === 5 && box.every(Number.isFinite)));
    assert.equal(pixels.disposed, false);
    await assert.rejects(detectFaces(model, Tensor.zeros([40, 56, 3])), ArgumentError);
    await assert.rejects(detectFaces(model, Tensor.zeros([2, 40, 56, 3], { dtype: 'uint8' })), ArgumentError);
    await assert.rejects(detectFaces(model, pixels, { maxSide: 0 }), ArgumentError);
    using classifier = Model.create('tiny_cnn');
    await assert.rejects(detectFaces(classifier, pixels), ArgumentError);
  });
});
