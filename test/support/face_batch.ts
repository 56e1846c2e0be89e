/** Batches of images with faces, as the MultiBox loss takes them. */
import { Tensor } from '#fornax/tensor.js';

/** The fields of a batch that say where its faces are. */
export interface FaceBatch extends Record<string, Tensor> {
  face_boxes: Tensor;
  face_landmarks: Tensor;
  face_labels: Tensor;
  face_offsets: Tensor;
}

/** Faces of several images, x1, y1, x2, y2 as shares; landmarks lie where they do in an upright face. */
export function batchOf(images: number[][][], labelOf: (i: number) => number = () => 1): FaceBatch {
  const boxes = images.flat();
  const offsets = [0];
  for (const image of images) offsets.push(offsets.at(-1)! + image.length);
  const points = boxes.flatMap(([x1, y1, x2, y2]) =>
    [0.3, 0.4, 0.7, 0.4, 0.5, 0.6, 0.35, 0.8, 0.65, 0.8].map((share, k) =>
      k % 2 === 0 ? x1! + share * (x2! - x1!) : y1! + share * (y2! - y1!),
    ),
  );
  return {
    face_boxes: Tensor.from(Float32Array.from(boxes.flat()), [boxes.length, 4]),
    face_landmarks: Tensor.from(Float32Array.from(points), [boxes.length, 10]),
    face_labels: Tensor.from(BigInt64Array.from(boxes, (_, i) => BigInt(labelOf(i)))),
    face_offsets: Tensor.from(BigInt64Array.from(offsets, BigInt)),
  };
}
