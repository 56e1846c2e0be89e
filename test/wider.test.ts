/** The evaluation of WIDER FACE against published figures and against a plain port of the original code. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { DataError } from '#fornax/errors.js';
import { evaluateWiderFace } from '#fornax/eval/wider/evaluate.js';
import { parsePredictions } from '#fornax/eval/wider/predictions.js';
import { fornax } from './support/cli.js';
import { testData, whyNoData } from './support/data.js';
import { matFile } from './support/mat_writer.js';
import { random } from './support/random.js';

const folder = mkdtempSync(join(tmpdir(), 'fornax-wider-'));
after(() => rmSync(folder, { recursive: true }));

interface Image {
  event: string;
  name: string;
  faces: number[][];
  /** 1-based. */
  counted: { easy: number[]; medium: number[]; hard: number[] };
  predictions: number[][];
}

/** The files of a data set; `easy`, `medium` and `hard` say which faces count. */
function write(name: string, images: Image[]): { predictions: string; groundTruth: string } {
  const events = [...new Set(images.map(({ event }) => event))];
  const of = (event: string): Image[] => images.filter((image) => image.event === event);
  const groundTruth = join(folder, name, 'ground_truth');
  const predictions = join(folder, name, 'predictions');
  mkdirSync(groundTruth, { recursive: true });
  writeFileSync(
    join(groundTruth, 'wider_face_val.mat'),
    matFile(
      {
        event_list: events,
        file_list: events.map((event) => of(event).map((image) => image.name)),
        face_bbx_list: events.map((event) =>
          of(event).map(({ faces }) => ({ rows: faces, type: 'int32' as const })),
        ),
      },
      { compressed: true },
    ),
  );
  for (const setting of ['easy', 'medium', 'hard'] as const) {
    const lists = events.map((event) =>
      of(event).map(({ counted }) => ({ rows: counted[setting].map((i) => [i]), type: 'uint8' as const })),
    );
    writeFileSync(join(groundTruth, `wider_${setting}_val.mat`), matFile({ gt_list: lists }));
  }
  for (const { event, name: image, predictions: boxes } of images) {
    mkdirSync(join(predictions, event), { recursive: true });
    const lines = [image, String(boxes.length), ...boxes.map((box) => box.join(' ') + ' ')];
    writeFileSync(join(predictions, event, `${image}.txt`), lines.join('\n') + '\n');
  }
  return { predictions, groundTruth };
}

/** The original evaluation, line by line: every threshold looks at every prediction. */
function reference(images: Image[], setting: keyof Image['counted']): number {
  const all = images.flatMap(({ predictions }) => predictions.map((box) => box[4]!));
  const [low, high] = [Math.min(1, ...all), Math.max(0, ...all)];
  const curve = Array.from({ length: 1000 }, () => [0, 0] as [number, number]);
  let countFace = 0;
  for (const { faces, counted, predictions } of images) {
    countFace += counted[setting].length;
    if (faces.length === 0 || predictions.length === 0) continue;
    const recall = new Array<number>(faces.length).fill(0);
    const proposal = new Array<number>(predictions.length).fill(1);
    const predRecall = predictions.map((box, h) => {
      const overlaps = faces.map((face) => iou(box, face));
      const best = Math.max(...overlaps);
      const index = overlaps.indexOf(best);
      if (best >= 0.5) {
        if (!counted[setting].includes(index + 1)) {
          recall[index] = -1;
          proposal[h] = -1;
        } else if (recall[index] === 0) recall[index] = 1;
      }
      return recall.filter((r) => r === 1).length;
    });
    for (let t = 0; t < 1000; t++) {
      const threshold = 1 - (t + 1) / 1000;
      const last = predictions.map((box) => (box[4]! - low) / (high - low) >= threshold).lastIndexOf(true);
      if (last < 0) continue;
      curve[t]![0] += proposal.slice(0, last + 1).filter((p) => p === 1).length;
      curve[t]![1] += predRecall[last]!;
    }
  }
  const precision = [0, ...curve.map(([proposals, found]) => (proposals === 0 ? 0 : found / proposals)), 0];
  const recall = [0, ...curve.map(([, found]) => found / countFace), 1];
  for (let i = precision.length - 1; i > 0; i--)
    precision[i - 1] = Math.max(precision[i - 1]!, precision[i]!);
  return recall.slice(1).reduce((sum, r, i) => sum + (r - recall[i]!) * precision[i + 1]!, 0);
}

function iou(a: number[], b: number[]): number {
  const w = Math.min(a[0]! + a[2]!, b[0]! + b[2]!) - Math.max(a[0]!, b[0]!) + 1;
  const h = Math.min(a[1]! + a[3]!, b[1]! + b[3]!) - Math.max(a[1]!, b[1]!) + 1;
  if (w <= 0 || h <= 0) return 0;
  return (w * h) / ((a[2]! + 1) * (a[3]! + 1) + (b[2]! + 1) * (b[3]! + 1) - w * h);
}

/** Faces, and predictions near them and elsewhere, not sorted by score. */
function drawImages(seed: number, count: number): Image[] {
  const draw = random(seed);
  const box = (): number[] => [draw(200), draw(200), 5 + draw(60), 5 + draw(60)];
  return Array.from({ length: count }, (_, i) => {
    const faces = Array.from({ length: draw(6) }, box);
    const some = (): number[] => faces.flatMap((_, f) => (draw(3) > 0 ? [f + 1] : []));
    const near = faces.flatMap((face) =>
      Array.from({ length: draw(3) }, () => face.map((value) => value + draw(9) - 4)),
    );
    const elsewhere = Array.from({ length: draw(5) }, box);
    return {
      event: `${i % 3}--Event`,
      name: `image_${i}`,
      faces,
      counted: { easy: some(), medium: some(), hard: faces.map((_, f) => f + 1) },
      predictions: [...near, ...elsewhere].map((values) => [...values, draw(1000) / 1000]),
    };
  });
}

test('published predictions give the published figures', { skip: whyNoData('wider') }, async () => {
  const root = testData('wider')!;
  const { easy, medium, hard, images, seconds } = await evaluateWiderFace({
    predictions: join(root, 'widerface_txt_resnet152'),
    groundTruth: join(root, 'ground_truth'),
  });
  const published = [...readFileSync(join(root, 'APs.txt'), 'utf8').matchAll(/AP: ([\d.]+)/g)].map((m) =>
    Number(m[1]),
  );
  assert.equal(published.length, 3);
  [easy, medium, hard].forEach(({ averagePrecision }, i) =>
    assert.ok(Math.abs(averagePrecision - published[i]!) < 1e-9, `${averagePrecision}, ${published[i]}`),
  );
  assert.equal(images, 3226);
  assert.ok(seconds < 60, `${seconds}`);
});

test('random predictions give what the original code gives', async () => {
  for (const seed of [1, 2, 3]) {
    const images = drawImages(seed, 12);
    const report = await evaluateWiderFace(write(`random${seed}`, images));
    for (const setting of ['easy', 'medium', 'hard'] as const) {
      const expected = reference(images, setting);
      const { averagePrecision, faces } = report[setting];
      assert.ok(expected > 0.01 && expected < 0.99, `${expected}`);
      assert.ok(
        Math.abs(averagePrecision - expected) < 1e-12,
        `${setting}: ${averagePrecision}, ${expected}`,
      );
      assert.equal(faces, images.flatMap(({ counted }) => counted[setting]).length);
    }
  }
});

/** One image with two faces; the second does not count as easy. */
const small: Image = {
  event: '0--Parade',
  name: 'one',
  faces: [
    [10, 10, 20, 20],
    [100, 100, 30, 30],
  ],
  counted: { easy: [1], medium: [1, 2], hard: [1, 2] },
  predictions: [
    [10, 10, 20, 20, 0.9],
    [100, 100, 30, 30, 0.5],
    [200, 200, 20, 20, 0.1],
  ],
};

test('a face that does not count is neither found nor wrong', async () => {
  const { easy, medium } = await evaluateWiderFace(write('small', [small]));
  assert.equal(easy.averagePrecision, 1);
  assert.deepEqual([easy.faces, medium.faces], [1, 2]);
  // At the lowest threshold: one of two proposals is right (easy), two of three (medium).
  assert.equal(easy.precision.at(-1), 1 / 2);
  assert.equal(medium.precision.at(-1), 2 / 3);
  assert.equal(medium.recall.at(-1), 1);
  const wrongFirst = { ...small, predictions: [[200, 200, 20, 20, 1], small.predictions[0]!] };
  const { hard } = await evaluateWiderFace(write('wrong_first', [wrongFirst]));
  // Half of the recall at precision 1/2.
  assert.equal(hard.averagePrecision, 0.25);
});

test('equal scores and no predictions at all have figures', async () => {
  const equal = { ...small, predictions: [small.predictions[0]!, [100, 100, 30, 30, 0.9]] };
  assert.equal((await evaluateWiderFace(write('equal', [equal]))).hard.averagePrecision, 1);
  const none = { ...small, predictions: [] };
  assert.equal((await evaluateWiderFace(write('none', [none]))).hard.averagePrecision, 0);
});

test('missing files and events are named', async () => {
  const other = { ...small, event: '1--Handshaking', name: 'two' };
  const paths = write('missing', [small, other]);
  rmSync(join(paths.predictions, other.event), { recursive: true });
  await assert.rejects(evaluateWiderFace(paths), (error: DataError) => {
    assert.ok(error instanceof DataError);
    assert.match(error.what, /1 of 2 events have no folder of predictions: 1--Handshaking/);
    return true;
  });
  mkdirSync(join(paths.predictions, other.event));
  await assert.rejects(
    evaluateWiderFace(paths),
    /1 of 2 images have no file of predictions: 1--Handshaking\/two\.txt/,
  );
  rmSync(join(paths.groundTruth, 'wider_hard_val.mat'));
  await assert.rejects(evaluateWiderFace(paths), /not complete: wider_hard_val\.mat missing/);
  await assert.rejects(evaluateWiderFace({ ...paths, predictions: '/nowhere' }), DataError);
});

test('ground truth of another set is refused', async () => {
  const paths = write('first', [small]);
  const other = write('second', [
    { ...small, faces: [...small.faces, [1, 1, 5, 5]], counted: { easy: [3], medium: [], hard: [] } },
  ]);
  cpSync(join(other.groundTruth, 'wider_easy_val.mat'), join(paths.groundTruth, 'wider_easy_val.mat'));
  await assert.rejects(evaluateWiderFace(paths), /gt_list\{1\}\{1\} is not a list of numbers from 1 to 2/);
});

test('broken predictions are refused with file and line', () => {
  assert.deepEqual(parsePredictions('a\n1\n1 2 3 4 0.5 \n', 'a.txt'), [1, 2, 3, 4, 0.5]);
  assert.deepEqual(parsePredictions('a\n0\n', 'a.txt'), []);
  assert.throws(() => parsePredictions('a\n', 'a.txt'), /number of faces[^]*a\.txt:2/);
  assert.throws(() => parsePredictions('a\n1\n1 2 x 4 0.5\n', 'a.txt'), /'1 2 x 4 0\.5'[^]*a\.txt:3/);
  assert.throws(() => parsePredictions('a\n1\n1 2 3 4\n', 'a.txt'), DataError);
  assert.throws(() => parsePredictions('a\n2\n1 2 3 4 0.5\n', 'a.txt'), /announces 2 faces and has 1/);
});

test('fornax eval --task faces', async () => {
  const { predictions, groundTruth } = write('cli', [small]);
  const args = ['eval', '--task', 'faces', '--predictions', predictions];
  const { code, stdout } = await fornax([...args, '--ground-truth', groundTruth, '--json']);
  assert.equal(code, 0);
  const record = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<string, unknown>;
  assert.deepEqual(record.easy, { average_precision: 1, faces: 1 });
  assert.equal(record.task, 'faces');
  const text = await fornax([...args, '--ground-truth', groundTruth]);
  assert.match(text.stdout, /easy +1\.00000 +1\n/);
  const incomplete = await fornax(args);
  assert.equal(incomplete.code, 2);
  assert.match(incomplete.stderr, /--task faces needs --ground-truth/);
});
