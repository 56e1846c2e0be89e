/** Opens ONNX files: what is in them is not to be trusted. */
import { promises as fs } from 'node:fs';
import path from 'node:path';

import { WeightsError } from '../../../errors.js';
import { DTYPE_BYTES } from '../../../graph/dtypes.js';
import type { DType } from '../../../graph/format.js';
import { escapeControlCharacters } from '../../../io/control_characters.js';
import type { NativeTensor } from '../../../native/contract.js';
import { loadAddon } from '../../../native.js';
import { dataTypes, EXTERNAL, type ModelProto, type TensorProto } from '../messages.js';
import { decode } from '../proto.js';

/** What one protobuf message can hold. */
const MAX_FILE = 2 ** 31 - 1;
const MAX_NODES = 1 << 17;
const MAX_TENSORS = 1 << 17;
const MAX_DIMS = 16;

const dtypeOf = new Map<number, DType>(
  Object.entries(dataTypes).map(([name, code]) => [code, name as DType]),
);

/** A stored tensor. */
export interface StoredTensor {
  name: string;
  dtype: DType;
  dims: number[];
  /** Its bytes; read from the second file if they lie there. */
  load: () => Promise<Uint8Array>;
}

export interface OnnxFile {
  model: ModelProto;
  tensors: StoredTensor[];
}

/** The element type of a number in a file. @throws WeightsError */
export function elementType(code: number, where: string): DType {
  const dtype = dtypeOf.get(code);
  if (dtype === undefined) throw new WeightsError({ what: `there is no element type ${code} here`, where });
  return dtype;
}

function value(tensor: TensorProto, key: string): string | undefined {
  return tensor.external_data?.find((entry) => entry.key === key)?.value;
}

/** The range of a second file, which must lie in the folder of the first. */
function externalBytes(
  tensor: TensorProto,
  file: string,
  length: number,
  where: string,
): () => Promise<Uint8Array> {
  const location = value(tensor, 'location') ?? '';
  const offset = Number(value(tensor, 'offset') ?? '0');
  const stated = Number(value(tensor, 'length') ?? String(length));
  if (location !== path.basename(location) || location === '' || location === '..' || location === '.') {
    throw new WeightsError({ what: 'values in a file outside the folder of the model', where });
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || stated !== length) {
    throw new WeightsError({ what: 'the place of values in the second file is not valid', where });
  }
  return async () => {
    const handle = await fs.open(path.join(path.dirname(file), location), 'r').catch((cause: unknown) => {
      throw new WeightsError({ what: `the second file '${location}' cannot be opened`, where, cause });
    });
    try {
      const { size } = await handle.stat();
      if (offset + length > size) throw new WeightsError({ what: 'the second file is too short', where });
      const bytes = new Uint8Array(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, 1 << 30), offset + done);
        if (bytesRead === 0) throw new WeightsError({ what: 'the second file is too short', where });
        done += bytesRead;
      }
      return bytes;
    } finally {
      await handle.close();
    }
  };
}

function stored(tensor: TensorProto, file: string): StoredTensor {
  const where = `${file}: tensor ${escapeControlCharacters(tensor.name.slice(0, 200))}`;
  const dtype = elementType(tensor.data_type, where);
  const { dims } = tensor;
  if (dims.length > MAX_DIMS || dims.some((length) => !Number.isSafeInteger(length) || length < 0)) {
    throw new WeightsError({ what: 'its shape is not valid', where });
  }
  const length = dims.reduce((a, b) => a * b, 1) * DTYPE_BYTES[dtype];
  if (!Number.isSafeInteger(length)) throw new WeightsError({ what: 'its shape is too large', where });
  if (tensor.data_location === EXTERNAL) {
    return { name: tensor.name, dtype, dims, load: externalBytes(tensor, file, length, where) };
  }
  const bytes = tensor.raw_data ?? new Uint8Array();
  if (bytes.length !== length) {
    throw new WeightsError({
      what: `it has ${bytes.length} bytes in raw_data, and ${length} by its shape`,
      where,
      fix: 'values in typed fields are not read: this reader is for files that Fornax writes',
    });
  }
  return { name: tensor.name, dtype, dims, load: () => Promise.resolve(bytes) };
}

/** @throws WeightsError for a file that is missing, damaged, too large or of another opset */
export async function openOnnx(file: string, opset: number): Promise<OnnxFile> {
  let bytes: Buffer;
  try {
    const { size } = await fs.stat(file);
    if (size > MAX_FILE)
      throw new WeightsError({ what: 'it is larger than an ONNX file can be', where: file });
    bytes = await fs.readFile(file);
  } catch (error) {
    if (error instanceof WeightsError) throw error;
    throw new WeightsError({ what: 'the file cannot be read', where: file, cause: error });
  }
  return parseOnnx(bytes, file, opset);
}

/** The part of `openOnnx` after the file is read. */
export function parseOnnx(bytes: Uint8Array, file: string, opset: number): OnnxFile {
  const model = decode('Model', bytes, file);
  const version = model.opset_import.find(({ domain }) => domain === '' || domain === 'ai.onnx')?.version;
  if (version !== opset) {
    throw new WeightsError({ what: `this is opset ${String(version)}, not ${opset}`, where: file });
  }
  const { graph } = model;
  if (graph.node.length > MAX_NODES || graph.initializer.length > MAX_TENSORS) {
    throw new WeightsError({ what: 'the graph is too large', where: file });
  }
  return { model, tensors: graph.initializer.map((tensor) => stored(tensor, file)) };
}

const arrays = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
} as const;

/** The elements in an array of their type (bits for half precision). */
export function typedArray(dtype: DType, bytes: Uint8Array): InstanceType<(typeof arrays)[DType]> {
  const { buffer, byteOffset, byteLength } = byteAligned(bytes, DTYPE_BYTES[dtype]);
  return new arrays[dtype](buffer, byteOffset, byteLength / DTYPE_BYTES[dtype]);
}

function byteAligned(
  bytes: Uint8Array,
  size: number,
): { buffer: ArrayBuffer; byteOffset: number; byteLength: number } {
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes);
  return {
    buffer: aligned.buffer as ArrayBuffer,
    byteOffset: aligned.byteOffset,
    byteLength: aligned.byteLength,
  };
}

/** A stored tensor's bytes as a tensor: copied once, wherever they lie. */
export function tensorOf({ dtype, dims }: StoredTensor, bytes: Uint8Array): NativeTensor {
  const { Tensor } = loadAddon();
  const raw = Tensor.fromTypedArray(bytes, [bytes.length]);
  const typed = Tensor.call('aten::view.dtype', [raw, { dtype }])[0]!;
  raw.dispose();
  const shaped = Tensor.call('aten::reshape', [typed, dims])[0]!;
  typed.dispose();
  return shaped;
}
