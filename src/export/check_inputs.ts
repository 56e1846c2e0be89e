/** What an export is checked with: the user's images, or noise from a seed; and once more at another size. */
import { ArgumentError, ConfigError, FornaxError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { findImages } from '../data/find_images.js';
import { decodeFor, imageBatch } from '../eval/image_batch.js';
import type { ModelInfo } from '../model/info.js';
import { normalizeOf } from '../model/info.js';
import type { NativeGraph, Normalize } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { Tensor } from '../tensor.js';
import type { ExportInput, ExportSource } from './format.js';

/** One forward of the check: what the source is given, and the same for the export. */
export interface CheckInput {
  kind: 'images' | 'random';
  source: Record<string, Tensor>;
  exported: Record<string, Tensor>;
}

/** More would cost time and tell nothing new. */
export const MOST_IMAGES = 16;
const NOISE_BATCH = 2;

export function disposeInputs(inputs: readonly CheckInput[]): void {
  for (const { source, exported } of inputs) {
    for (const tensor of [...Object.values(source), ...Object.values(exported)]) tensor.dispose();
  }
}

/** A small generator, so that no run of a check touches libtorch's own (Steele et al. 2014, SplitMix). */
function* splitMix(seed: number): Generator<number, never> {
  let state = seed | 0;
  for (;;) {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    yield (z ^ (z >>> 15)) >>> 0;
  }
}

/** Noise of a shape: whole range of uint8, 0 or 1 for other integers, else uniform with deviation 1. */
function noise(shape: readonly number[], dtype: ExportInput['dtype'], seed: number): Tensor {
  const draw = splitMix(seed);
  const count = shape.reduce((product, length) => product * length, 1);
  const fill = <T extends Uint8Array | Float32Array>(data: T, value: (bits: number) => number): T => {
    for (let i = 0; i < count; i++) data[i] = value(draw.next().value);
    return data;
  };
  if (dtype === 'uint8') {
    return Tensor.from(
      fill(new Uint8Array(count), (bits) => bits & 0xff),
      shape,
    );
  }
  const half = Math.sqrt(3);
  const floats = fill(new Float32Array(count), (bits) =>
    /float/.test(dtype) ? (bits / 2 ** 32) * 2 * half - half : bits & 1,
  );
  const tensor = Tensor.from(floats, shape);
  if (dtype === 'float32') return tensor;
  using original = tensor;
  return original.to({ dtype });
}

/** uint8 images as the graph takes them: the very operator of the sessions. */
function normalized(pixels: Tensor, { mean, std, channel_order: order }: Normalize): Tensor {
  using view = pixels.call('fornax::normalize', mean, std, order === 'bgr');
  return view.call('aten::contiguous');
}

/** An image input as both sides take it. */
function imageInput(
  kind: CheckInput['kind'],
  name: string,
  pixels: Tensor,
  info: ModelInfo,
  preprocess: boolean,
): CheckInput {
  const normalize = normalizeOf(info.preprocessing);
  if (preprocess) return { kind, source: { [name]: pixels }, exported: { [name]: pixels } };
  if (normalize === null) {
    throw new ConfigError('the model does not know how its input is normalised: it cannot be given images');
  }
  return { kind, source: { [name]: pixels }, exported: { [name]: normalized(pixels, normalize) } };
}

async function fromImages(
  patterns: readonly string[],
  inputs: readonly ExportInput[],
  info: ModelInfo,
  preprocess: boolean,
): Promise<CheckInput[]> {
  const { preprocessing } = info;
  const [input] = inputs;
  if (preprocessing === null || inputs.length !== 1 || input!.shape.length !== 4) {
    throw new ArgumentError({
      what: 'this model does not say how images become its input, so it cannot be checked with any',
      fix: 'leave --images out: the check then takes random inputs',
    });
  }
  const files = (await findImages(patterns)).slice(0, MOST_IMAGES);
  const decoded = await Promise.all(files.map((file) => decodeFor(preprocessing, file)));
  const { resize, size, ...rest } = preprocessing;
  const one = (pixels: Tensor): CheckInput => imageInput('images', input!.name, pixels, info, preprocess);
  if (resize !== null && size !== null) {
    const fixed = { ...rest, resize, size };
    if (typeof input!.dims[0] === 'string') return [one(await imageBatch(decoded, fixed))];
    const batches: CheckInput[] = [];
    for (const image of decoded) batches.push(one(await imageBatch([image], fixed)));
    return batches;
  }
  return decoded.map(({ data, height, width, channels }) =>
    one(Tensor.from(data, [1, height, width, channels])),
  );
}

/** Noise at the sizes given. With preprocessing inside, as pixels, which the source normalises itself. */
function fromNoise(inputs: readonly ExportInput[], shapes: readonly number[][], seed: number): CheckInput {
  const tensors = Object.fromEntries(
    inputs.map(({ name, dtype }, i) => [name, noise(shapes[i]!, dtype, seed + i)]),
  );
  return { kind: 'random', source: tensors, exported: tensors };
}

/** The example's size, with a batch of two where the batch is free. */
function exampleShapes(inputs: readonly ExportInput[]): number[][] {
  return inputs.map(({ shape, dims }) =>
    shape.map((length, i) => (dims[i] === 'batch' ? NOISE_BATCH : length)),
  );
}

/** Another size in every free dimension, at which the graph runs; null if there is none. */
function otherShapes(graph: Graph, inputs: readonly ExportInput[]): number[][] | null {
  const example = exampleShapes(inputs);
  const native = new (loadAddon().Graph)(graph, { trusted: true });
  try {
    for (const enlarged of [(length: number) => length + 32, (length: number) => 2 * length]) {
      const shapes = inputs.map(({ shape, dims }) =>
        shape.map((length, i) => {
          if (dims[i] === 'batch') return NOISE_BATCH + 1;
          return typeof dims[i] === 'string' ? enlarged(length) : length;
        }),
      );
      if (shapes.flat().join() === example.flat().join()) return null;
      if (runsAt(native, inputs, shapes)) return shapes;
    }
    return null;
  } finally {
    native.dispose();
  }
}

function runsAt(native: NativeGraph, inputs: readonly ExportInput[], shapes: readonly number[][]): boolean {
  try {
    native.inferShapes(inputs.map(({ dtype }, i) => ({ shape: shapes[i]!, dtype })));
    return true;
  } catch (error) {
    if (error instanceof FornaxError) return false;
    throw error;
  }
}

/**
 * @param images files, folders, patterns; none: noise.
 * @returns one or more forwards at the model's own size, then, if a length is free, one with noise at another size;
 *   more noise where that would be a single sample.
 * @throws DataError for images that cannot be read, ArgumentError for a model that does not take images
 */
export async function checkInputs(
  { graph, inputs, info }: Pick<ExportSource, 'graph' | 'inputs' | 'info'>,
  options: { images?: readonly string[] | undefined; preprocess: boolean; seed: number },
): Promise<CheckInput[]> {
  const { images = [], preprocess, seed } = options;
  const main =
    images.length > 0
      ? await fromImages(images, inputs, info, preprocess)
      : [fromNoise(inputs, exampleShapes(inputs), seed)];
  const other = otherShapes(graph, inputs);
  const all = other === null ? main : [...main, fromNoise(inputs, other, seed + 1000)];
  // Two samples that surely differ, to see that the outputs do: images may all be the same.
  const isBatched = inputs.every(({ dims }) => dims.includes('batch'));
  const isNoise = main[0]!.kind === 'random';
  const missing = isBatched ? Number(!isNoise && other === null) : isNoise ? 1 : 2;
  for (let i = 0; i < missing; i++) all.push(fromNoise(inputs, exampleShapes(inputs), seed + 2000 + i));
  return all;
}
