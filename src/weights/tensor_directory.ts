/**
 * What every reader of weights makes of a file: a list of tensors with names, and where their bytes lie. The
 * bytes themselves are read natively, straight into a model.
 */
import { WeightsError } from '../errors.js';
import { DTYPE_BYTES } from '../graph/dtypes.js';
import type { DType } from '../graph/format.js';
import type { FileTensor } from '../native/contract.js';
import type { PickledTensor } from './pickle/values.js';

export type WeightsFormat = 'safetensors' | 'pth' | 'legacy pth' | 'torchscript';

export interface TensorDirectory {
  format: WeightsFormat;
  /** Names as in the file (without those of the dicts around the state dict). */
  tensors: FileTensor[];
  /** Entries of the state dict that cannot be loaded, and why. */
  skipped: { name: string; reason: string }[];
  /** safetensors' metadata. */
  metadata: Record<string, string>;
  /** What is worth telling: which dict was taken, what was left. */
  notes: string[];
}

/** Where a storage's bytes lie in the file. */
export interface StorageRange {
  offset: number;
  bytes: number;
  bigEndian: boolean;
}

const MAX_RANK = 32;

/**
 * A tensor of a pickle as a range of the file.
 *
 * @throws WeightsError if it reaches outside its storage or has strides that make no sense.
 * @returns the reason as text for a tensor that is sound but of a sort that cannot be loaded.
 */
export function locate(name: string, tensor: PickledTensor, storage: StorageRange): FileTensor | string {
  const { shape, strides, dtype } = tensor;
  const bad = (what: string): never => {
    throw new WeightsError(`the tensor '${name}' is not sound: ${what}`);
  };
  const size = Object.hasOwn(DTYPE_BYTES, dtype) ? DTYPE_BYTES[dtype as DType] : undefined;
  if (size === undefined) return `tensors of ${dtype} are not supported`;
  if (shape.length > MAX_RANK || strides.length !== shape.length) bad('shape and strides do not agree');
  const offset = tensor.offset + (tensor.storage?.viewOffset ?? 0);
  if (offset < 0 || shape.some((extent) => extent < 0)) bad('it has a negative size or offset');
  if (strides.some((stride) => stride < 0)) bad('it has a negative stride');
  const empty = shape.includes(0);
  let last = offset;
  let elements = 1;
  for (const [i, extent] of shape.entries()) {
    elements *= extent;
    if (!empty) last += (extent - 1) * strides[i]!;
    if (!Number.isSafeInteger(elements) || !Number.isSafeInteger(last)) bad('it is too large');
  }
  if (!empty && (last + 1) * size > storage.bytes) {
    bad(
      `it needs ${(last + 1) * size} bytes of its storage, which has ${storage.bytes}` +
        ` ([${shape.join(', ')}] with strides [${strides.join(', ')}])`,
    );
  }
  // Numbers from nothing: one element repeated by strides of zero beyond what any file would hold.
  if (elements > 2 ** 36) bad('it is too large');
  return {
    name,
    dtype: dtype as DType,
    shape: [...shape],
    offset: empty ? storage.offset : storage.offset + offset * size,
    length: empty ? 0 : (last - offset + 1) * size,
    ...(empty || isContiguous(shape, strides) ? {} : { strides: [...strides] }),
    ...(storage.bigEndian && size > 1 ? { big_endian: true } : {}),
  };
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i]!;
  }
  return true;
}
