/**
 * Predictions for image files. Every image takes the way that evaluation takes: the same decoder, then the same
 * native loader, with the geometry that the model file states; so the two agree to the last bit.
 */
import { findImages } from '../data/find_images.js';
import type { DecodedImage } from '../data/decode.js';
import { AbortedError, ArgumentError, DataError } from '../errors.js';
import { Model } from '../model.js';
import { normalizeOf, type FixedPreprocessing } from '../model/info.js';
import type { NativeInference } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { Tensor } from '../tensor.js';
import { describeDevice, resolveDevice } from '../train/devices.js';
import type { Report } from '../train/events.js';
import { requirePreprocessing } from './evaluate.js';
import { decodeFor, imageBatch } from './image_batch.js';
import { evaluationSession } from './run_evaluation.js';

export interface PredictOptions {
  /** How many classes per image, at most. Default 5. */
  topk?: number;
  /** `auto` (default), `cpu`, `cuda`, `cuda:N`. */
  device?: string;
  /** Default 32. */
  batchSize?: number;
  report?: Report;
  signal?: AbortSignal;
}

export interface ClassProbability {
  label: string;
  index: number;
  /** 0…1. */
  probability: number;
}

export interface Prediction {
  path: string;
  /** The most probable classes, best first; empty if the image could not be read. */
  predictions: ClassProbability[];
  /** Why the image could not be read. */
  error?: DataError;
}

interface Decoded {
  path: string;
  image: DecodedImage | DataError;
}

/**
 * Classifies images, in the order given.
 *
 * @param model a model, or the path of its file.
 * @param inputs files, folders (searched to any depth) and glob patterns.
 * @throws WeightsError, GraphError for the model; DataError if an input names no image or none could be read;
 *   AbortedError.
 */
export async function* predict(
  model: Model | string,
  inputs: readonly string[],
  options: PredictOptions = {},
): AsyncGenerator<Prediction, void, void> {
  const files = await findImages(inputs);
  const batchSize = options.batchSize ?? 32;
  if (!Number.isSafeInteger(batchSize) || batchSize < 1)
    throw new ArgumentError('batchSize must be at least 1');
  const info = loadAddon().systemInfo();
  const device = resolveDevice(options.device ?? 'auto', info);
  const loaded = typeof model === 'string' ? await Model.load(model) : model;
  let session: NativeInference | null = null;
  try {
    const preprocessing = requirePreprocessing(loaded);
    options.report?.({
      type: 'device',
      phase: 'predict',
      device: device.device,
      deviceName: device.name,
      amp: 'off',
      message: describeDevice('predict', device, info),
    });
    session = evaluationSession(loaded.native, {
      device: device.device,
      normalize: normalizeOf(preprocessing),
    });
    const classify = new Classifier(loaded, session, preprocessing, options.topk ?? 5);
    const decode = (from: number): Promise<Decoded[]> =>
      Promise.all(files.slice(from, from + batchSize).map((file) => decodeOne(file, preprocessing)));
    let read = 0;
    let next = decode(0);
    for (let from = 0; from < files.length; from += batchSize) {
      if (options.signal?.aborted) throw new AbortedError('the prediction was stopped');
      const chunk = await next;
      // The next images are decoded while these are classified.
      next = decode(from + batchSize);
      next.catch(() => undefined); // Awaited above; the consumer may leave before.
      const results = await classify.chunk(chunk);
      read += results.filter(({ error }) => !error).length;
      yield* results;
    }
    if (read === 0) {
      throw new DataError({
        what: `none of the ${files.length} images could be read`,
        fix: 'give JPEG, PNG or WebP files',
      });
    }
  } finally {
    session?.dispose();
    if (typeof model === 'string') loaded.dispose();
  }
}

async function decodeOne(file: string, preprocessing: FixedPreprocessing): Promise<Decoded> {
  try {
    return { path: file, image: await decodeFor(preprocessing, file) };
  } catch (error) {
    if (error instanceof DataError) return { path: file, image: error };
    throw error;
  }
}

class Classifier {
  constructor(
    private readonly model: Model,
    private readonly session: NativeInference,
    private readonly preprocessing: FixedPreprocessing,
    private readonly topk: number,
  ) {}

  async chunk(decoded: readonly Decoded[]): Promise<Prediction[]> {
    const images = decoded
      .map(({ image }) => image)
      .filter((image): image is DecodedImage => !(image instanceof DataError));
    const rows = images.length === 0 ? [] : await this.probabilities(images);
    let next = 0;
    return decoded.map(({ path: file, image }) =>
      image instanceof DataError
        ? { path: file, predictions: [], error: image }
        : { path: file, predictions: this.top(rows[next++]!) },
    );
  }

  /** Softmax of the logits, one row per image. */
  private async probabilities(images: readonly DecodedImage[]): Promise<number[][]> {
    using batch = await imageBatch(images, this.preprocessing);
    const input = this.model.graph.inputs[0]!.name;
    const outputs = await this.session.forward({ [input]: batch.native });
    const name = this.model.graph.outputs.find((port) => port.auxiliary !== true)?.name;
    using logits = new Tensor(outputs[name!]!);
    if (logits.shape.length !== 2) {
      throw new ArgumentError({
        what: `the model's output '${name!}' is no matrix of logits, one row per image, but has the shape [${logits.shape.join(', ')}]`,
        fix: 'prediction names the class of an image; a model for another task runs with model.forward()',
      });
    }
    using probabilities = logits.call('aten::softmax.int', -1, { dtype: 'float32' });
    return probabilities.toArray() as number[][];
  }

  private top(probabilities: readonly number[]): ClassProbability[] {
    return probabilities
      .map((probability, index) => ({
        label: this.model.info.labels[index] ?? `class ${index}`,
        index,
        probability,
      }))
      .sort((a, b) => b.probability - a.probability || a.index - b.index)
      .slice(0, this.topk);
  }
}
