/** Faces in image files: copies with boxes drawn in, and `fornax predict` with a detector. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import sharp from 'sharp';
import { detectFaces, drawFaces, predictFaces, type FaceDetection } from '#fornax/detect/index.js';
import { ArgumentError, DataError, FornaxError } from '#fornax/errors.js';
import { predict } from '#fornax/eval/predict.js';
import { parsePredictions } from '#fornax/eval/wider/predictions.js';
import { Model } from '#fornax/model.js';
import { fornax, jsonLines } from './support/cli.js';
import { testData, whyNoData } from './support/data.js';
import { plain, plainFile, put, temporaryFolder } from './support/images.js';

const root = temporaryFolder();
const grey = [90, 90, 90] as const;
const face: FaceDetection = {
  box: [20, 10, 60, 50],
  score: 0.9,
  landmarks: [
    [30, 22],
    [50, 22],
    [40, 30],
    [32, 40],
    [48, 40],
  ],
};

function sha256(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

async function pixel(file: string, x: number, y: number): Promise<number[]> {
  const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return [...data.subarray((y * info.width + x) * info.channels, (y * info.width + x) * info.channels + 3)];
}

describe('drawing', () => {
  for (const format of ['png', 'jpeg', 'webp'] as const) {
    test(`puts frames and dots into a copy of a ${format} file and leaves the original alone`, async () => {
      const original = put(root, `draw/one.${format}`, await plainFile(80, 100, grey, format));
      const hash = sha256(original);
      const copy = path.join(root, 'drawn', `one.${format}`);
      await drawFaces(original, [face], copy);
      assert.equal(sha256(original), hash);
      const { width, height, format: written } = await sharp(copy).metadata();
      assert.deepEqual([width, height, written], [100, 80, format]);
      const [red, green] = (await pixel(copy, 20, 30)) as [number, number];
      assert.ok(red > 150 && green < 90, `edge of the frame: ${red}, ${green}`);
      const inside = await pixel(copy, 54, 32);
      assert.ok(
        inside.every((value, i) => Math.abs(value - grey[i]!) < 20),
        `between them: ${inside.join(', ')}`,
      );
      assert.notDeepEqual(await pixel(copy, 40, 30), await pixel(copy, 90, 70));
    });
  }

  test('turns a copy upright, as the boxes are', async () => {
    // Stored lying: shown, it is 60 wide and 90 high.
    const bytes = await plain(60, 90, grey).jpeg().withMetadata({ orientation: 6 }).toBuffer();
    const original = put(root, 'lying.jpg', bytes);
    const copy = path.join(root, 'upright.jpg');
    await drawFaces(original, [{ ...face, box: [5, 40, 55, 85] }], copy);
    const { width, height, orientation = 1 } = await sharp(copy).metadata();
    assert.deepEqual([width, height, orientation], [60, 90, 1]);
    const [red, green] = (await pixel(copy, 5, 60)) as [number, number];
    assert.ok(red > 150 && green < 110);
  });

  test('takes faces that reach beyond the image, and refuses what is no image', async () => {
    const original = put(root, 'edge.png', await plainFile(40, 40, grey));
    await drawFaces(original, [{ ...face, box: [-30, -30, 80, 90] }], path.join(root, 'edge.faces.png'));
    const broken = put(root, 'broken.png', 'no image');
    await assert.rejects(drawFaces(broken, [face], path.join(root, 'x.png')), DataError);
  });
});

describe('an untrained detector', () => {
  // Its scores are near one half: with a low threshold it "finds" faces, and predictably many.
  const limits = { confidence: 0, keepTopK: 3, device: 'cpu' };
  const model = path.join(root, 'untrained.safetensors');
  before(async () => {
    using made = Model.create('featherface_baseline', { inputs: [[1, 3, 64, 64]] });
    await made.save(model);
    const first = await plainFile(48, 64, [200, 30, 40]);
    put(root, 'in/a/same.png', first);
    put(root, 'in/b/same.png', await plainFile(56, 40, [10, 30, 140], 'jpeg'));
    put(root, 'in/broken.jpg', 'no image');
  });

  test('is predicted from its file; every image gets its own copy', async () => {
    const out = path.join(root, 'copies');
    const found = [];
    for await (const one of predictFaces(model, [path.join(root, 'in')], { ...limits, output: out }))
      found.push(one);
    assert.deepEqual(
      found.map(({ error, faces }) => [error instanceof DataError, faces.length]),
      [
        [false, 3],
        [false, 3],
        [true, 0],
      ],
    );
    const names = ['same.faces.png', 'same.faces-2.png'].sort();
    assert.deepEqual(readdirSync(out).sort(), names);
    assert.deepEqual(
      found.map(({ output }) => output && path.basename(output)),
      ['same.faces.png', 'same.faces-2.png', null],
    );
  });

  test('writes its copies beside originals without replacing one, also through a link', async () => {
    const folder = path.join(root, 'beside');
    mkdirSync(folder);
    copyFileSync(path.join(root, 'in/a/same.png'), path.join(folder, 'p.png'));
    copyFileSync(path.join(root, 'in/a/same.png'), path.join(folder, 'p.faces.png'));
    symlinkSync(folder, path.join(root, 'link'));
    const hashes = ['p.png', 'p.faces.png'].map((name) => sha256(path.join(folder, name)));
    const files = ['p.png', 'p.faces.png'].map((name) => path.join(folder, name));
    const outputs = [];
    for await (const { output } of predictFaces(model, files, {
      ...limits,
      output: path.join(root, 'link'),
    })) {
      outputs.push(path.basename(output!));
    }
    assert.deepEqual(outputs, ['p.faces-2.png', 'p.faces.faces.png']);
    assert.deepEqual(
      ['p.png', 'p.faces.png'].map((name) => sha256(path.join(folder, name))),
      hashes,
    );
  });

  test('gives boxes in pixels of the original where images are scaled down', async () => {
    using made = Model.create('retinaface_mobilenet025', { inputs: [[1, 3, 64, 64]] });
    const large = put(root, 'large.png', await plainFile(300, 400, [200, 100, 50]));
    const small = put(root, 'small.png', await plainFile(75, 100, [200, 100, 50]));
    const [a, b] = await Promise.all([
      detectFaces(made, large, { ...limits, maxSide: 100 }),
      detectFaces(made, small, limits),
    ]);
    assert.deepEqual(
      a.map(({ score }) => score),
      b.map(({ score }) => score),
    );
    for (const [i, one] of a.entries()) {
      for (const [k, value] of one.box.entries()) assert.ok(Math.abs(value - 4 * b[i]!.box[k]!) < 1e-3);
      assert.ok(Math.abs(one.landmarks[3]![1] - 4 * b[i]!.landmarks[3]![1]) < 1e-3);
    }
  });

  test('names a folder for copies that is a file', async () => {
    const image = put(root, 'folder/one.png', await plainFile(40, 40, grey));
    const find = async (): Promise<void> => {
      for await (const _ of predictFaces(model, [image], { device: 'cpu', output: image })) assert.fail();
    };
    await assert.rejects(find(), (error) => {
      assert.ok(error instanceof FornaxError, String(error));
      assert.match(error.message, /a part of the path is a file/);
      return true;
    });
  });

  test('is refused where a classifier is wanted, and the other way round', async () => {
    using classifier = Model.create('tiny_cnn');
    const image = path.join(root, 'in/a/same.png');
    await assert.rejects(predictFaces(classifier, [image]).next(), ArgumentError);
    await assert.rejects(predict(model, [image]).next(), /fornax predict/);
  });

  test('writes text files that the evaluation of WIDER FACE reads', async () => {
    const wider = path.join(root, 'wider');
    const image = path.join(root, 'in/a/same.png');
    for await (const { faces } of predictFaces(model, [image], { ...limits, wider })) {
      const file = path.join(wider, 'a/same.txt');
      const text = readFileSync(file, 'utf8');
      assert.equal(text.split('\n')[0], 'same');
      const values = parsePredictions(text, file);
      const expected = faces.flatMap(({ box: [x1, y1, x2, y2], score }) => [x1, y1, x2 - x1, y2 - y1, score]);
      assert.equal(values.length, expected.length);
      assert.ok(values.every((value, i) => Math.abs(value - expected[i]!) <= 1e-3));
    }
  });

  test('is run by fornax predict', async () => {
    const options = { cwd: root, env: { FORNAX_CACHE: path.join(root, 'cache') } };
    const flags = ['--model', 'untrained.safetensors', '--confidence', '0', '--device', 'cpu'];
    const { code, stdout, stderr } = await fornax(
      ['predict', ...flags, 'in', '--out', 'marked', '--wider', 'texts'],
      options,
    );
    assert.deepEqual(readdirSync(path.join(root, 'texts')), ['a', 'b']);
    assert.equal(code, 1); // one image is broken
    assert.match(stdout, /^in\/a\/same\.png {2}\d+ faces {2}best \d+\.\d % {2}→ marked\/same\.faces\.png$/m);
    assert.match(stdout, /^in\/broken\.jpg {2}not read: /m);
    assert.match(stderr, /1 image\(s\) could not be read/);
    assert.equal(readdirSync(path.join(root, 'marked')).length, 2);
    const json = await fornax(['predict', ...flags, 'in/a', '--no-draw', '--json'], options);
    const [record] = jsonLines(json.stdout).filter(({ type }) => type === 'prediction');
    assert.equal(record!.output, null);
    const [first] = record!.faces as FaceDetection[];
    assert.deepEqual([first!.box.length, first!.landmarks.length], [4, 5]);
    const wrong = await fornax(['predict', ...flags, 'in/a', '--nms', '3'], options);
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /--nms[\s\S]*from 0 to 1/);
  });
});

test(
  'a published detector finds the faces of a photograph: as many as its original, drawn into a copy',
  { skip: whyNoData('weights') || whyNoData('wider') },
  async () => {
    const file = path.join(root, 'faces.safetensors');
    {
      using model = Model.create('featherface_baseline');
      await model.loadWeights(path.join(testData('weights')!, 'featherface__mobilenet0.25_Final.pth'));
      await model.save(file);
    }
    const image = path.join(testData('wider')!, 'images', '12_Group_Group_12_Group_Group_12_24.jpg');
    const hash = sha256(image);
    const args = ['predict', '-m', file, image, '--json', '--out', 'photos', '--device', 'cpu'];
    const { code, stdout, stderr } = await fornax(args, { cwd: root });
    assert.equal(code, 0, stderr);
    const [record] = jsonLines(stdout).filter(({ type }) => type === 'prediction');
    const faces = record!.faces as FaceDetection[];
    assert.equal(faces.length, 23);
    for (const [k, value] of [316.127, 229.77, 373.716, 300.413].entries()) {
      assert.ok(Math.abs(faces[0]!.box[k]! - value) < 0.5);
    }
    assert.equal(sha256(image), hash);
    const copy = path.join(root, String(record!.output));
    const [x1, y1, , y2] = faces[0]!.box;
    const [red, green] = (await pixel(copy, Math.round(x1), Math.round((y1 + y2) / 2))) as [number, number];
    assert.ok(red > 180 && green < 120, `edge of the first face: ${red}, ${green}`);
  },
);
