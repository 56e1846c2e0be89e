/** Faces in many image files, with a copy of each that shows them. */
import { realpathSync } from 'node:fs';
import path from 'node:path';

import { findImages } from '../data/find_images.js';
import { AbortedError, DataError } from '../errors.js';
import { makeFolders } from '../io/folders.js';
import { refusedWrite } from '../io/write_error.js';
import { Model } from '../model.js';
import { loadAddon } from '../native.js';
import { describeDevice, resolveDevice } from '../train/devices.js';
import type { Report } from '../train/events.js';
import type { FaceDetection } from './decode.js';
import { FaceDetector, type DetectOptions } from './detect_faces.js';
import { drawFaces } from './draw.js';
import { writeWiderText } from './wider_text.js';

export interface PredictFacesOptions extends DetectOptions {
  /** `auto` (default), `cpu`, `cuda`, `cuda:N`. */
  device?: string;
  /** Folder for copies with boxes and landmarks drawn in, `<name>.faces.<ext>`. Default: none are written. */
  output?: string | null;
  /**
   * Folder for WIDER FACE's text files, which `fornax eval --task faces` reads: `<event>/<image>.txt`, the event
   * being the folder of the image. Take a `confidence` of 0.02 with it. Default: none are written.
   */
  wider?: string | null;
  report?: Report;
  signal?: AbortSignal;
}

export interface FacePrediction {
  path: string;
  /** By falling score; empty if the image could not be read. */
  faces: FaceDetection[];
  /** Path of the copy; null if none was written. */
  output: string | null;
  /** Why the image could not be read. */
  error?: DataError;
}

/** Names for the copies: two originals of one name get two, and no original is ever replaced. */
class CopyNames {
  private readonly taken: Set<string>;

  constructor(
    private readonly folder: string,
    originals: readonly string[],
  ) {
    this.taken = new Set(originals.map((file) => real(file)));
  }

  of(file: string): string {
    const { name, ext } = path.parse(file);
    for (let i = 1; ; i++) {
      const target = path.join(this.folder, `${name}.faces${i === 1 ? '' : `-${i}`}${ext}`);
      if (this.taken.has(real(target))) continue;
      this.taken.add(real(target));
      return target;
    }
  }
}

/** Without symbolic links, as far as the path exists. */
function real(file: string): string {
  const resolved = path.resolve(file);
  try {
    return realpathSync(resolved);
  } catch {
    const parent = path.dirname(resolved);
    return parent === resolved ? resolved : path.join(real(parent), path.basename(resolved));
  }
}

/**
 * Finds faces in images, in the order given. While one image is computed the next is read.
 *
 * @param model a face detector, or the path of its file.
 * @param inputs files, folders (searched to any depth) and glob patterns.
 * @throws WeightsError, GraphError, ArgumentError for the model; DataError if an input names no image or none
 *   could be read; AbortedError.
 */
export async function* predictFaces(
  model: Model | string,
  inputs: readonly string[],
  options: PredictFacesOptions = {},
): AsyncGenerator<FacePrediction, void, void> {
  const files = await findImages(inputs);
  const info = loadAddon().systemInfo();
  const device = resolveDevice(options.device ?? 'auto', info);
  const loaded = typeof model === 'string' ? await Model.load(model) : model;
  let detector: FaceDetector | null = null;
  const running: Promise<FacePrediction>[] = [];
  try {
    const found = new FaceDetector(loaded, { ...options, device: device.device });
    detector = found;
    options.report?.({
      type: 'device',
      phase: 'predict',
      device: device.device,
      deviceName: device.name,
      amp: 'off',
      message: describeDevice('predict', device, info),
    });
    const { output = null, wider = null } = options;
    if (output !== null) {
      await makeFolders(output).catch((error: unknown) => {
        throw refusedWrite(error, output);
      });
    }
    const names = output === null ? null : new CopyNames(output, files);
    const start = (file: string): void => {
      const copy = names?.of(file) ?? null;
      const prediction = predictOne(found, file, { copy, wider });
      prediction.catch(() => undefined); // Awaited below, unless the consumer leaves before.
      running.push(prediction);
    };
    let read = 0;
    for (const [i, file] of files.entries()) {
      if (options.signal?.aborted) throw new AbortedError('the prediction was stopped');
      if (i === 0) start(file);
      if (i + 1 < files.length) start(files[i + 1]!);
      const prediction = await running.shift()!;
      if (!prediction.error) read++;
      yield prediction;
    }
    if (read === 0) {
      throw new DataError({
        what: `none of the ${files.length} images could be read`,
        fix: 'give JPEG, PNG or WebP files',
      });
    }
  } finally {
    await Promise.allSettled(running);
    detector?.dispose();
    if (typeof model === 'string') loaded.dispose();
  }
}

async function predictOne(
  detector: FaceDetector,
  file: string,
  { copy, wider }: { copy: string | null; wider: string | null },
): Promise<FacePrediction> {
  try {
    const faces = await detector.detect(file);
    if (copy !== null) await drawFaces(file, faces, copy);
    if (wider !== null) await writeWiderText(wider, file, faces);
    return { path: file, faces, output: copy };
  } catch (error) {
    if (error instanceof DataError) return { path: file, faces: [], output: null, error };
    throw error;
  }
}
