/** Finding faces in images. */
import { decodeImage, imageSize } from '../data/decode.js';
import { ArgumentError } from '../errors.js';
import type { Model } from '../model.js';
import { Tensor } from '../tensor.js';
import { FaceDecoder, type DecodeOptions, type FaceDetection } from './decode.js';

export interface DetectOptions extends DecodeOptions {
  /** Images with a longer side are scaled down to it; boxes are given in the original's pixels. Default: none is. */
  maxSide?: number | null;
  /** Default `cpu`. Decoding and suppression always run on the CPU. */
  device?: string;
  /** Intra-op threads. Default: all cores. */
  threads?: number;
}

interface Input {
  /** uint8 [1, H, W, 3]. */
  pixels: Tensor;
  /** By what coordinates are multiplied to be those of the original. */
  scale: [x: number, y: number];
}

/**
 * Finds faces with one model and one set of options. Give it to `using` or dispose it; the model stays the caller's.
 */
export class FaceDetector {
  private readonly decoder: FaceDecoder;

  /** @throws ArgumentError for a model that is no face detector, or options out of range */
  constructor(
    private readonly model: Model,
    private readonly options: DetectOptions = {},
  ) {
    const { detection, name, preprocessing } = model.info;
    if (!detection) {
      throw new ArgumentError({
        what: `the model '${name}' does not say how its outputs become boxes`,
        fix: 'give a face detector of the zoo, or a file saved from one',
      });
    }
    if (preprocessing?.channels !== 3) {
      throw new ArgumentError(`the model '${name}' does not take colour images`);
    }
    const { maxSide = null } = options;
    if (maxSide !== null && (!Number.isSafeInteger(maxSide) || maxSide < 1)) {
      throw new ArgumentError(`maxSide must be an integer of at least 1, not ${String(maxSide)}`);
    }
    this.decoder = new FaceDecoder(detection, options);
  }

  /**
   * The faces of one image, by falling score.
   *
   * @param image path of a file, its bytes (JPEG, PNG, WebP), or pixels: uint8 [H, W, 3] or [1, H, W, 3], RGB.
   * @throws DataError if the image cannot be read.
   */
  async detect(image: string | Uint8Array | Tensor): Promise<FaceDetection[]> {
    const { pixels, scale } = await this.read(image);
    const { device, threads } = this.options;
    let outputs: Record<string, Tensor> = {};
    try {
      outputs = await this.model.forward(pixels, {
        ...(device === undefined ? {} : { device }),
        ...(threads === undefined ? {} : { threads }),
      });
      const [found] = await this.decoder.decode(pixels, outputs);
      return found!.faces.map((face) => scaled(face, scale));
    } finally {
      for (const tensor of [pixels, ...Object.values(outputs)]) tensor.dispose();
    }
  }

  private async read(image: string | Uint8Array | Tensor): Promise<Input> {
    if (image instanceof Tensor) return { pixels: asBatch(image), scale: [1, 1] };
    const { maxSide = null } = this.options;
    const size = maxSide === null ? null : await imageSize(image);
    const longer = size ? Math.max(size.height, size.width) : 0;
    const shrink = size && longer > maxSide!;
    const shorterSide = shrink
      ? Math.max(1, Math.round((Math.min(size.height, size.width) * maxSide!) / longer))
      : 0;
    const decoded = await decodeImage(image, 3, shrink ? { shorterSide } : {});
    return {
      pixels: Tensor.from(decoded.data, [1, decoded.height, decoded.width, 3]),
      scale: shrink ? [size.width / decoded.width, size.height / decoded.height] : [1, 1],
    };
  }

  dispose(): void {
    this.decoder.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A tensor of our own, because the caller keeps its one. */
function asBatch(image: Tensor): Tensor {
  const { shape, dtype } = image;
  const [n, h, w, c] = shape.length === 3 ? [1, ...shape] : shape;
  if (dtype !== 'uint8' || shape.length < 3 || shape.length > 4 || n !== 1 || c !== 3) {
    throw new ArgumentError(
      `detectFaces takes pixels as uint8 [H, W, 3], not ${dtype} [${shape.join(', ')}]`,
    );
  }
  return image.call('aten::reshape', [1, h!, w!, 3]);
}

function scaled({ box, score, landmarks }: FaceDetection, [x, y]: [number, number]): FaceDetection {
  if (x === 1 && y === 1) return { box, score, landmarks };
  return {
    box: [box[0] * x, box[1] * y, box[2] * x, box[3] * y],
    score,
    landmarks: landmarks.map(([px, py]) => [px * x, py * y]),
  };
}

/**
 * Finds the faces in one image; for many, make one FaceDetector.
 *
 * @param model a face detector, from the zoo with weights or from a file.
 * @param image path, encoded bytes, or pixels as uint8 [H, W, 3], RGB.
 * @returns by falling score.
 * @throws ArgumentError, DataError
 */
export async function detectFaces(
  model: Model,
  image: string | Uint8Array | Tensor,
  options: DetectOptions = {},
): Promise<FaceDetection[]> {
  const detector = new FaceDetector(model, options);
  try {
    return await detector.detect(image);
  } finally {
    detector.dispose();
  }
}
