/** From the raw outputs of a face detector to faces: decoding and non-maximum suppression, native. */
import { ArgumentError } from '../errors.js';
import { trace } from '../graph/trace.js';
import type { DetectionInfo } from '../model/info.js';
import type { NativeGraph, NativeInference } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { call, Module, type Tensor as SymbolicTensor } from '../nn/index.js';
import type { Tensor } from '../tensor.js';

export interface FaceDetection {
  /** x1, y1, x2, y2 in pixels of the image. Faces at its edge may reach beyond it. */
  box: [number, number, number, number];
  /** Probability of being a face, 0…1. */
  score: number;
  /** x, y in pixels: left and right eye (as seen in the image), nose, left and right corner of the mouth. */
  landmarks: [number, number][];
}

export interface DecodeOptions {
  /** Scores up to this are dropped, 0…1. Default 0.5; evaluation (precision at every recall) takes 0.02. */
  confidence?: number;
  /** Of two faces that overlap (IoU) by more than this, 0…1, the less probable one is dropped. Default 0.4. */
  nms?: number;
  /** So many of the most probable candidates are looked at. Default 5000. */
  topK?: number;
  /** At most so many faces are returned. Default 750. */
  keepTopK?: number;
}

/** The faces of one image. */
export interface DecodedFaces {
  /** By falling score. */
  faces: FaceDetection[];
  /** How many scores were above the threshold, before suppression. */
  candidates: number;
}

function checkOptions({ confidence = 0.5, nms = 0.4, topK = 5000, keepTopK = 750 }: DecodeOptions): number[] {
  for (const [name, value] of Object.entries({ confidence, nms })) {
    if (!(value >= 0 && value <= 1)) {
      throw new ArgumentError(`${name} must be between 0 and 1, not ${String(value)}`);
    }
  }
  for (const [name, value] of Object.entries({ topK, keepTopK })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new ArgumentError(`${name} must be an integer of at least 1, not ${String(value)}`);
    }
  }
  return [confidence, nms, topK, keepTopK];
}

class Decode extends Module {
  constructor(
    readonly detection: DetectionInfo,
    readonly limits: readonly number[],
  ) {
    super();
  }

  forward(image: SymbolicTensor, loc: SymbolicTensor, conf: SymbolicTensor, landm: SymbolicTensor) {
    const { min_sizes: sizes, steps, variances } = this.detection;
    const [detections, offsets, candidates] = call(
      'fornax::decode_faces',
      [image, loc, conf, landm, sizes.flat(), steps, variances, ...this.limits],
      { outputs: 3 },
    ) as [SymbolicTensor, SymbolicTensor, SymbolicTensor];
    return { detections, offsets, candidates };
  }
}

/** Decodes the outputs of a face detector, away from JavaScript's thread. Free it with `dispose()` or `using`. */
export class FaceDecoder {
  private readonly graph: NativeGraph;
  private readonly session: NativeInference;

  /** @throws ArgumentError for options out of range */
  constructor(detection: DetectionInfo, options: DecodeOptions = {}) {
    const inputs = ['image', 'loc', 'conf', 'landm'].map((name) => ({ name, shape: null }));
    const graph = trace(new Decode(detection, checkOptions(options)), { inputs });
    const { Graph, InferenceSession } = loadAddon();
    this.graph = new Graph(graph, { trusted: true });
    this.session = new InferenceSession(this.graph, { threads: 1 });
  }

  /**
   * @param images uint8 [N, H, W, 3] or float32 [N, 3, H, W], as the detector got them: their size counts.
   * @param outputs `loc`, `conf` (class scores before the softmax) and `landm`.
   * @returns one entry for each image.
   * @throws ExecutionError if the outputs do not belong to images of this size.
   */
  async decode(images: Tensor, outputs: Record<string, Tensor>): Promise<DecodedFaces[]> {
    const field = (name: string): Tensor => {
      const tensor = outputs[name];
      if (tensor) return tensor;
      throw new ArgumentError({
        what: `the model has no output '${name}', so it is no face detector`,
        fix: 'give a model such as retinaface_mobilenet025 or featherface',
      });
    };
    const { detections, offsets, candidates } = await this.session.forward({
      image: images.native,
      loc: field('loc').native,
      conf: field('conf').native,
      landm: field('landm').native,
    });
    const values = detections!.toTypedArray() as Float32Array;
    const bounds = Array.from(offsets!.toTypedArray() as BigInt64Array, Number);
    const counts = Array.from(candidates!.toTypedArray() as BigInt64Array, Number);
    for (const tensor of [detections, offsets, candidates]) tensor!.dispose();
    return counts.map((count, i) => ({
      candidates: count,
      faces: Array.from({ length: bounds[i + 1]! - bounds[i]! }, (_, k) => {
        const row = Array.from(values.subarray((bounds[i]! + k) * 15, (bounds[i]! + k + 1) * 15));
        return toFace(row);
      }),
    }));
  }

  dispose(): void {
    this.session.dispose();
    this.graph.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function toFace(row: readonly number[]): FaceDetection {
  return {
    box: row.slice(0, 4) as FaceDetection['box'],
    score: row[4]!,
    landmarks: [5, 7, 9, 11, 13].map((i) => [row[i]!, row[i + 1]!]),
  };
}
