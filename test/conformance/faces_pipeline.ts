/** Detections on images, from the file to boxes in pixels. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { decodeImage } from '#fornax/data/decode.js';
import { FaceDecoder, type FaceDetection } from '#fornax/detect/index.js';
import { Tensor } from '#fornax/tensor.js';
import { testData, whyNoData } from '../support/data.js';
import type { Comparison } from './comparison.js';
import { type FaceFile, giveWeights, makeModel } from './faces_models.js';
import type { Fields } from './fields.js';
import { type GoldenCase, Unsupported } from './kind.js';

export function pipelineCases(file: FaceFile): GoldenCase[] {
  return [...file.images].map(([image, fields]) => ({
    name: `pipeline/${image}`,
    fields,
    run: (comparison) => runImage(file, image, fields, comparison),
  }));
}

async function runImage(
  file: FaceFile,
  image: string,
  fields: Fields,
  comparison: Comparison,
): Promise<void> {
  const pixels = await readImage(image, fields, comparison);
  try {
    const models = fields.map('models');
    for (const name of models.keys()) {
      await compareModel(file, name, models.child(name), pixels, comparison);
    }
  } finally {
    pixels.dispose();
  }
}

/** uint8 [1, H, W, 3], RGB. @throws Unsupported where the image is missing or decoded to other pixels */
async function readImage(image: string, fields: Fields, comparison: Comparison): Promise<Tensor> {
  const folder = testData('wider');
  if (folder === null) throw new Unsupported(String(whyNoData('wider')));
  const path = join(folder, 'images', image);
  if (!existsSync(path)) throw new Unsupported(`the data set 'wider' has no image '${image}'`);
  const { data, width, height } = await decodeImage(path, 3);
  comparison.equal('size', [width, height], fields.numbers('size'));
  const bgr = Uint8Array.from(data, (_, i) => data[i + 2 - 2 * (i % 3)]!);
  if (createHash('sha256').update(bgr).digest('hex') !== fields.text('bgr_sha256')) {
    throw new Unsupported('the decoder gives other pixels than the one of the file');
  }
  return Tensor.from(data, [1, height, width, 3]);
}

async function compareModel(
  file: FaceFile,
  name: string,
  expected: Fields,
  pixels: Tensor,
  comparison: Comparison,
): Promise<void> {
  const { tolerances, pipeline } = file.settings;
  const { confidence, topK, nms, keepTopK, mean } = pipeline;
  const model = makeModel(file, name, pixels.shape.slice(1, 3));
  // `after_nms` counts what is kept before the cut at keepTopK.
  const decoder = new FaceDecoder(model.info.detection!, { confidence, topK, nms, keepTopK: topK });
  try {
    await giveWeights(file, name, model);
    const subtracted = model.info.preprocessing!.normalize!.mean.map((value) => Math.round(value * 255));
    comparison.equal(`${name}.mean`, subtracted, mean);
    const outputs = await model.forward(pixels);
    const [found] = await decoder.decode(pixels, outputs);
    for (const tensor of Object.values(outputs)) tensor.dispose();
    const { faces, candidates } = found!;
    const kept = faces.slice(0, keepTopK);
    const counts = { candidates, after_nms: faces.length };
    for (const [what, count] of Object.entries(counts)) {
      const wanted = expected.integer(what);
      comparison.close(`${name}.${what}`, count, wanted, tolerances.counts * wanted);
    }
    const confident = kept.filter(({ score }) => score >= tolerances.confident).length;
    comparison.equal(`${name}.n50`, confident, expected.integer('n50'));
    const sum = kept.reduce((total, { score }) => total + score, 0);
    comparison.close(
      `${name}.sum_scores`,
      sum,
      expected.number('sum_scores'),
      tolerances.score * kept.length,
    );
    compareTop(name, kept, expected.list('top') as number[][], tolerances, comparison);
    compareDouble(expected);
  } finally {
    decoder.dispose();
    model.dispose();
  }
}

function compareTop(
  name: string,
  faces: readonly FaceDetection[],
  top: readonly number[][],
  tolerances: FaceFile['settings']['tolerances'],
  comparison: Comparison,
): void {
  for (const [i, row] of top.entries()) {
    const face = faces[i];
    const values = face ? [...face.box, face.score, ...face.landmarks.flat()] : [];
    comparison.equal(`${name}.top[${i}], length`, values.length, row.length);
    for (const [k, expected] of row.entries()) {
      const tolerance = k === 4 ? tolerances.score : tolerances.pixels;
      comparison.close(`${name}.top[${i}][${k}]`, values[k] ?? NaN, expected, tolerance);
    }
  }
}

/** How far the original is from its own run in double: nothing of ours to compare. */
function compareDouble(expected: Fields): void {
  const double = expected.child('f64');
  for (const key of double.keys()) double.raw(key);
}
