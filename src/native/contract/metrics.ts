/** Metrics of classifiers, segmenters and face detectors, counted natively. Part of contract.ts. */
import type { DeviceName, NativeHandle, NativeTensor } from './tensors.js';

/** Shares in 0…1; 0 where nothing was predicted or nothing is there. */
export interface MetricAverages {
  precision: number;
  recall: number;
  f1: number;
}

/** Figures of a classifier over all samples that were added. */
export interface ClassificationResult {
  samples: number;
  /** Shares of the samples, 0…1; `top5` of fewer than five classes: among all of them. */
  top1: number;
  top5: number;
  /** Mean over samples; null without samples, and from `evaluate`, whose loss is a graph. */
  cross_entropy: number | null;
  /** Expected calibration error, l1, 15 bins of equal width over the highest softmax. NaN if a score is. */
  ece: number;
  /** One-vs-rest area under the ROC curve, exact: mean over the classes that have samples; null if it was not computed. */
  auroc: number | null;
  /** Null for a class without samples; empty if it was not computed. */
  auroc_per_class: (number | null)[];
  /** Mean over the classes that occur as label or prediction. */
  macro: MetricAverages;
  /** Mean weighted by the samples of each class. */
  weighted: MetricAverages;
  per_class: { support: number[]; precision: number[]; recall: number[]; f1: number[] };
  classes: number;
  /** Row = target, column = prediction, flat [classes × classes]. */
  confusion: number[];
}

/** Figures of a segmentation over all pixels that were added. */
export interface SegmentationResult {
  /** Counted ones: without those of `ignore_index`. */
  pixels: number;
  pixel_accuracy: number;
  /** Means over the classes that occur as target or prediction. */
  miou: number;
  mean_dice: number;
  /** Null for a class that does not occur. */
  iou_per_class: (number | null)[];
  dice_per_class: (number | null)[];
  classes: number;
  /** Row = target, column = prediction, flat [classes × classes]. */
  confusion: number[];
}

/** Counts batches on a thread of its own, in the order of the calls. */
export interface NativeClassificationMetrics extends NativeHandle {
  /** `logits` floating [n, classes], `label` int64 [n]. DataError for a label outside 0…classes − 1. */
  add(logits: NativeTensor, label: NativeTensor): Promise<void>;
  result(): Promise<ClassificationResult>;
}

export interface ClassificationMetricsClass {
  /**
   * AUROC keeps every score (4 bytes × samples × classes); beyond `auroc_bytes` (default 1 GiB) it is given up, and
   * the result has null. Everything else needs the confusion matrix and a few sums.
   */
  new (options: {
    classes: number;
    device?: DeviceName;
    /** Default true. */
    auroc?: boolean;
    auroc_bytes?: number;
    /** Of the calibration error. Default 15. */
    bins?: number;
  }): NativeClassificationMetrics;
}

export interface NativeSegmentationMetrics extends NativeHandle {
  /**
   * `output`: floating logits [n, classes, …] or predicted classes, integers [n, …]; `mask`: integers [n, …].
   * DataError for a value of the mask outside 0…classes − 1 that is not `ignore_index`.
   */
  add(output: NativeTensor, mask: NativeTensor): Promise<void>;
  result(): Promise<SegmentationResult>;
}

export interface SegmentationMetricsClass {
  new (options: {
    classes: number;
    device?: DeviceName;
    /** Pixels of the mask with this value are not counted. */
    ignore_index?: number;
  }): NativeSegmentationMetrics;
}

/** What WIDER FACE's evaluation works on, image after image. */
export interface WiderOptions {
  /** [x, y, width, height, score] of each prediction, in the order in which they are matched. */
  predictions: Float64Array;
  /** [images + 1]: where the predictions of an image begin, counted in predictions. */
  prediction_offsets: Int32Array;
  /** [x, y, width, height] of each face. */
  faces: Float64Array;
  face_offsets: Int32Array;
  /** Per setting (easy, medium, hard): 1 for each face that counts, 0 for each that is ignored. */
  settings: Uint8Array[];
  /** Default 0.5. */
  iou_threshold?: number;
  /** Of the normalised score. Default 1000. */
  thresholds?: number;
}

export interface WiderResult {
  average_precision: number;
  /** Faces that count. */
  faces: number;
  /** One value per threshold, the highest first. */
  precision: Float64Array;
  recall: Float64Array;
}
