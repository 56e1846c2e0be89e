/** The evaluation of WIDER FACE: average precision of a face detector on its easy, medium and hard faces. */
import { AbortedError } from '../../errors.js';
import { loadAddon } from '../../native.js';
import { readWiderGroundTruth, widerSettings, type WiderImage, type WiderSetting } from './ground_truth.js';
import { readWiderPredictions } from './predictions.js';

export interface EvaluateWiderOptions {
  /** Folder with a folder for each event, with a text file for each image: see docs/api.md. */
  predictions: string;
  /** Folder with wider_face_val.mat and wider_{easy,medium,hard}_val.mat. */
  groundTruth: string;
  /** From which overlap on a prediction has found a face. Default 0.5, as published figures use. */
  iouThreshold?: number;
  /** Files of predictions read so far. */
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

export interface WiderSettingResult {
  /** 0…1. */
  averagePrecision: number;
  /** Faces that count in this setting. */
  faces: number;
  /** One value for each of 1000 thresholds of the normalised score, the highest first. */
  precision: Float64Array;
  recall: Float64Array;
}

export interface WiderReport extends Record<WiderSetting, WiderSettingResult> {
  images: number;
  predictions: number;
  seconds: number;
}

/**
 * Average precision as the data set's own evaluation code computes it: scores scaled to 0…1 over the whole set,
 * predictions matched in the order of their files, faces that do not count in a setting ignored, 1000 thresholds,
 * area under the precision envelope. Where no prediction passes a threshold its precision counts as 0.
 *
 * @throws DataError for files that are missing, broken or do not fit together; AbortedError.
 */
export async function evaluateWiderFace(options: EvaluateWiderOptions): Promise<WiderReport> {
  const started = performance.now();
  const { iouThreshold = 0.5, signal } = options;
  const images = await readWiderGroundTruth(options.groundTruth);
  const predicted = await readWiderPredictions(options.predictions, images, {
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
    signal,
  });
  if (signal?.aborted) throw new AbortedError('the evaluation was stopped');
  const predictions = Float64Array.from(predicted.flat());
  const faceOffsets = offsets(images.map(({ faces }) => faces.length / 4));
  const results = await loadAddon().widerAveragePrecision({
    predictions,
    prediction_offsets: offsets(predicted.map((values) => values.length / 5)),
    faces: Float64Array.from(images.flatMap(({ faces }) => faces)),
    face_offsets: faceOffsets,
    settings: widerSettings.map((setting) => countedFaces(images, faceOffsets, setting)),
    iou_threshold: iouThreshold,
  });
  const of = (setting: WiderSetting): WiderSettingResult => {
    const { average_precision: averagePrecision, ...rest } = results[widerSettings.indexOf(setting)]!;
    return { averagePrecision, ...rest };
  };
  return {
    easy: of('easy'),
    medium: of('medium'),
    hard: of('hard'),
    images: images.length,
    predictions: predictions.length / 5,
    seconds: (performance.now() - started) / 1000,
  };
}

/** Where each part of a list begins, and at the end how long it is. */
function offsets(lengths: readonly number[]): Int32Array {
  const result = new Int32Array(lengths.length + 1);
  lengths.forEach((length, i) => (result[i + 1] = result[i]! + length));
  return result;
}

function countedFaces(
  images: readonly WiderImage[],
  faceOffsets: Int32Array,
  setting: WiderSetting,
): Uint8Array {
  const counted = new Uint8Array(faceOffsets[images.length]!);
  images.forEach((image, i) => {
    for (const face of image.counted[setting]) counted[faceOffsets[i]! + face] = 1;
  });
  return counted;
}
