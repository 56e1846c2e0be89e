import assert from 'node:assert/strict';
import { existsSync, promises as fs, readdirSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import sharp from 'sharp';
import { decodeImage } from '#fornax/data/decode.js';
import { generator, shuffle } from '#fornax/data/random.js';
import { prepareShapes } from '#fornax/data/shapes.js';
import { drawShape, SHAPES } from '#fornax/data/shapes_draw.js';
import { AbortedError, ArgumentError, DataError } from '#fornax/errors.js';
import { put, temporaryFolder } from './support/images.js';

test('the set holds real JPEGs, masks and boxes that agree with each other', async () => {
  const out = path.join(temporaryFolder(), 'shapes');
  const result = await prepareShapes({ out, count: 72, size: 48, seed: 3 });
  assert.deepEqual(result, { folder: out, created: true, count: 72, classes: SHAPES });
  const boxes = JSON.parse(await fs.readFile(path.join(out, 'boxes', 'val.json'), 'utf8')) as Record<
    string,
    { label: string; box: number[] }[]
  >;
  assert.equal(Object.keys(boxes).length, 12);
  for (const [k, shape] of SHAPES.entries()) {
    assert.equal(readdirSync(path.join(out, 'train', shape)).length, 10);
    const name = `${shape}/00001`;
    const file = path.join(out, 'val', `${name}.jpg`);
    assert.equal((await sharp(file).metadata()).format, 'jpeg');
    const mask = await decodeImage(path.join(out, 'masks', 'val', `${name}.png`), 1);
    assert.deepEqual([mask.height, mask.width], [48, 48]);
    assert.deepEqual([...new Set(mask.data)].sort(), [0, k + 1]);
    const [entry] = boxes[`${name}.jpg`]!;
    assert.equal(entry!.label, shape);
    assert.deepEqual(entry!.box, boundsOf(mask.data, 48));
  }
});

function boundsOf(mask: Uint8Array, size: number): number[] {
  const on = [...mask.keys()].filter((p) => mask[p] !== 0);
  const [xs, ys] = [on.map((p) => p % size), on.map((p) => Math.floor(p / size))];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1];
}

test('the same seed gives the same files, another seed others', async () => {
  const root = temporaryFolder();
  const bytes = async (out: string, seed: number): Promise<Buffer> => {
    await prepareShapes({ out: path.join(root, out), count: 24, size: 32, seed });
    return fs.readFile(path.join(root, out, 'train', 'star', '00000.jpg'));
  };
  const first = await bytes('a', 7);
  assert.deepEqual(await bytes('b', 7), first);
  assert.notDeepEqual(await bytes('c', 8), first);
});

test('a complete set is kept, a damaged one in the cache is made again', async () => {
  const cache = temporaryFolder();
  const options = { cache, count: 24, size: 16 };
  const made = await prepareShapes(options);
  assert.ok(made.created);
  assert.equal((await prepareShapes(options)).created, false);
  const lost = path.join(made.folder, 'train', 'ring', '00000.jpg');
  unlinkSync(lost);
  assert.equal((await prepareShapes(options)).created, true);
  assert.ok(existsSync(lost));
});

test('a folder with other contents or other settings is left alone', async () => {
  const root = temporaryFolder();
  put(root, 'mine/notes.txt', 'keep');
  await assert.rejects(prepareShapes({ out: path.join(root, 'mine'), count: 24 }), /not empty/);
  assert.equal(await fs.readFile(path.join(root, 'mine', 'notes.txt'), 'utf8'), 'keep');
  await prepareShapes({ out: path.join(root, 'set'), count: 24, size: 16 });
  await assert.rejects(prepareShapes({ out: path.join(root, 'set'), count: 36 }), (error: unknown) => {
    assert.ok(error instanceof DataError);
    assert.match(error.what, /count 24 already, asked for was 36/);
    return true;
  });
  assert.equal((await prepareShapes({ out: path.join(root, 'set') })).count, 24);
});

test('stopping leaves nothing behind', async () => {
  const root = temporaryFolder();
  const stop = new AbortController();
  await assert.rejects(
    prepareShapes({
      out: path.join(root, 'set'),
      count: 1200,
      signal: stop.signal,
      onProgress: () => stop.abort(),
    }),
    AbortedError,
  );
  assert.deepEqual(readdirSync(root), []);
});

test('two at once both end with the complete set', async () => {
  const out = path.join(temporaryFolder(), 'set');
  const results = await Promise.all([1, 2].map(() => prepareShapes({ out, count: 60, size: 32 })));
  assert.deepEqual(
    results.map((result) => result.folder),
    [out, out],
  );
  assert.deepEqual(readdirSync(path.dirname(out)), ['set']);
  assert.equal((await prepareShapes({ out })).created, false);
});

test('settings out of range are refused', async () => {
  for (const bad of [{ count: 5 }, { size: 8 }, { seed: -1 }, { count: 20.5 }]) {
    await assert.rejects(prepareShapes({ out: '/nonexistent/x', ...bad }), ArgumentError);
  }
});

/** Pixels averaged over squares of `factor`, scaled to about −1…1. */
function downscale(pixels: Uint8Array, size: number, factor: number): Float64Array {
  const side = size / factor;
  const out = new Float64Array(side * side * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      for (let c = 0; c < 3; c++) {
        const to = (Math.floor(y / factor) * side + Math.floor(x / factor)) * 3 + c;
        out[to]! += (pixels[(y * size + x) * 3 + c]! / 127.5 - 1) / (factor * factor);
      }
    }
  }
  return out;
}

/** Multinomial logistic regression by stochastic gradient descent; returns a function that gives a class. */
function fitLinear(
  samples: Float64Array[],
  labels: number[],
  classes: number,
): (sample: Float64Array) => number {
  const n = samples[0]!.length;
  const weights = Array.from({ length: classes }, () => new Float64Array(n + 1));
  const logits = (sample: Float64Array): number[] =>
    weights.map((w) => sample.reduce((sum, value, j) => sum + value * w[j]!, w[n]!));
  const random = generator(1);
  for (let epoch = 0; epoch < 20; epoch++) {
    const rate = 0.02 / (1 + epoch / 4);
    for (const i of shuffle([...samples.keys()], random)) {
      const sample = samples[i]!;
      const scores = logits(sample);
      const most = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - most));
      const total = powers.reduce((sum, power) => sum + power, 0);
      weights.forEach((w, k) => {
        const step = rate * (powers[k]! / total - (labels[i] === k ? 1 : 0));
        for (let j = 0; j < n; j++) w[j]! -= step * sample[j]!;
        w[n]! -= step;
      });
    }
  }
  return (sample) => {
    const scores = logits(sample);
    return scores.indexOf(Math.max(...scores));
  };
}

function accuracyOfLinear(
  draw: (label: number, i: number, held: boolean) => Uint8Array,
  size: number,
): number {
  const [perClass, heldPerClass] = [200, 50];
  const set = (count: number, held: boolean) =>
    SHAPES.flatMap((_, label) =>
      Array.from({ length: count }, (_unused, i) => ({ label, x: downscale(draw(label, i, held), size, 4) })),
    );
  const train = set(perClass, false);
  const predict = fitLinear(
    train.map(({ x }) => x),
    train.map(({ label }) => label),
    SHAPES.length,
  );
  const held = set(heldPerClass, true);
  return held.filter(({ x, label }) => predict(x) === label).length / held.length;
}

test('a linear classifier on pixels stays under 60 %', () => {
  const accuracy = accuracyOfLinear((label, i, held) => drawShape(label, 64, 0, held ? 1 : 0, i).pixels, 64);
  assert.ok(accuracy < 0.6, `a linear classifier reaches ${accuracy}`);
});

test('the same linear classifier learns a bar whose length tells the class', () => {
  // Guards the test above against a classifier that learns nothing.
  const accuracy = accuracyOfLinear((label, i, held) => {
    const random = generator(5, label, i, held ? 1 : 0);
    return Uint8Array.from({ length: 32 * 32 * 3 }, (_, p) =>
      Math.floor(p / 3) % 32 < 5 * (label + 1) ? 128 + 100 * random() : 100 * random(),
    );
  }, 32);
  assert.ok(accuracy > 0.9, `it reaches only ${accuracy}`);
});
