/** The faces of a golden file's images, and their matching with the anchors. */
import { join } from 'node:path';
import { imageSize } from '#fornax/data/decode.js';
import { faceAnchors } from '#fornax/detect/index.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { FaceFile } from './faces_models.js';
import type { FaceSettings } from './faces_settings.js';
import { testData, whyNoData } from '../support/data.js';
import { type Fields, MalformedGolden } from './fields.js';
import { Unsupported } from './kind.js';

/** As shares of width and height. */
export interface Face {
  /** x1, y1, x2, y2. */
  box: number[];
  /** x and y in turn. */
  points: number[];
  /** 1, or −1 without landmarks. */
  label: number;
}

function shares(values: readonly number[], [width, height]: readonly [number, number]): number[] {
  return values.map((value, i) => value / (i % 2 === 0 ? width : height));
}

/** Width and height: of an image that is not in the file's pipeline, from the image itself. */
async function sizeOfImage(file: FaceFile, image: string): Promise<[number, number]> {
  const stated = file.images.get(image)?.numbers('size');
  if (stated) return stated as [number, number];
  const folder = testData('wider');
  if (folder === null) throw new Unsupported(String(whyNoData('wider')));
  const { width, height } = await imageSize(join(folder, 'images', image));
  return [width, height];
}

/** The faces of an image by the rule of the file. */
export async function facesOfImage(file: FaceFile, match: Fields): Promise<Face[]> {
  const { points, period, missing } = file.settings.targets;
  const image = match.text('image');
  const size = await sizeOfImage(file, image);
  return (match.list('boxes_xywh') as [number, number, number, number][]).map(([x, y, w, h], i) => {
    const label = i % period === missing ? -1 : 1;
    const pixels =
      label > 0 ? points.flatMap(([fx, fy]) => [x + fx * w, y + fy * h]) : points.flatMap(() => [-1, -1]);
    return { box: shares([x, y, x + w, y + h], size), points: shares(pixels, size), label };
  });
}

/** Square faces in pixels of an image of the stated size. */
export function quirkFaces(quirks: Fields, [height, width]: readonly [number, number]): Face[] {
  const key = quirks.keys().find((name) => /^boxes_pixels_of_\d+$/.test(name)) ?? 'boxes_pixels_of_640';
  const side = Number(/\d+$/.exec(key)![0]);
  if (side !== height || side !== width) {
    throw new MalformedGolden(
      quirks.where,
      `has faces in an image of ${side}², but anchors for ${height}×${width}`,
    );
  }
  if (quirks.text('landmarks') !== 'all five at the centre') {
    throw quirks.wrong('landmarks', "'all five at the centre'");
  }
  return (quirks.list(key) as [number, number, number, number][]).map(([x1, y1, x2, y2]) => ({
    box: shares([x1, y1, x2, y2], [side, side]),
    points: shares(
      Array(5)
        .fill([(x1 + x2) / 2, (y1 + y2) / 2])
        .flat() as number[],
      [side, side],
    ),
    label: 1,
  }));
}

/** A face as the original's data set gives it. */
export function targetRow({ box, points, label }: Face): number[] {
  return [...box, ...points, label].map(Math.fround);
}

/** The fields of a batch. */
export function faceFields(images: readonly (readonly Face[])[]): Record<string, NativeTensor> {
  const { Tensor } = loadAddon();
  const faces = images.flat();
  const offsets = [0];
  for (const image of images) offsets.push(offsets.at(-1)! + image.length);
  const floats = (values: number[], width: number): NativeTensor =>
    Tensor.fromTypedArray(Float32Array.from(values), [faces.length, width]);
  return {
    face_boxes: floats(
      faces.flatMap(({ box }) => box),
      4,
    ),
    face_landmarks: floats(
      faces.flatMap(({ points }) => points),
      10,
    ),
    face_labels: Tensor.fromTypedArray(
      BigInt64Array.from(faces, ({ label }) => BigInt(label)),
      [faces.length],
    ),
    face_offsets: Tensor.fromTypedArray(BigInt64Array.from(offsets, BigInt), [offsets.length]),
  };
}

/** [P, 4]. */
export function priorsFor([height, width]: readonly [number, number]): NativeTensor {
  const { Tensor } = loadAddon();
  const like = Tensor.fromTypedArray(new Float32Array(1), [1]);
  const { min_sizes: sizes, steps } = faceAnchors;
  const [priors] = Tensor.call('fornax::prior_boxes', [like, height, width, sizes.flat(), steps]);
  like.dispose();
  return priors!;
}

export interface Matched {
  /** [P, 4]. */
  loc: Float32Array;
  /** [P]. */
  conf: number[];
  /** [P, 10]. */
  landm: Float32Array;
}

/** The targets of the anchors of one image. */
export function matchFaces({ targets }: FaceSettings, faces: readonly Face[]): Matched {
  const { Tensor } = loadAddon();
  const priors = priorsFor(targets.size);
  const loc = Tensor.fromTypedArray(new Float32Array(priors.shape[0]! * 4), [1, ...priors.shape]);
  const fields = faceFields([faces]);
  const results = Tensor.call('fornax::match_priors', [
    loc,
    priors,
    fields.face_boxes!,
    fields.face_landmarks!,
    fields.face_labels!,
    fields.face_offsets!,
    targets.threshold,
    targets.variances,
  ]);
  const [locTarget, conf, landm] = results.map((tensor) => tensor.toTypedArray());
  for (const tensor of [priors, loc, ...Object.values(fields), ...results]) tensor.dispose();
  return {
    loc: locTarget as Float32Array,
    conf: Array.from(conf as BigInt64Array, Number),
    landm: landm as Float32Array,
  };
}
