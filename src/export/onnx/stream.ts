/**
 * Writes an ONNX file piece by piece: the lengths of all messages are known before, so that no more than one
 * tensor's bytes are held beside the model. Beyond what one file of the format can hold (2 GiB, the limit of a
 * protobuf message) the tensors go to a second file.
 */
import { promises as fs } from 'node:fs';
import path from 'node:path';

import type { Initializer } from './builder.js';
import { dataTypes, EXTERNAL, type GraphProto, type ModelProto, type TensorProto } from './messages.js';
import { encode, fieldNumbers, lengthDelimited } from './proto.js';

/** Bytes that a protobuf message can hold. */
const MAX_MESSAGE = 2 ** 31 - 1;
/** Tensors below this stay in the model: shapes and other constants that tools want to see. */
const MIN_EXTERNAL = 1024;
/** Where tensors begin in the second file, so that it can be mapped. */
const ALIGNMENT = 4096;

export interface StreamOptions {
  /** The second file, beside the first, if one is needed. */
  dataFile: string;
  /** Put the tensors into a second file. Default: where one file cannot hold them. */
  external?: boolean;
}

type Piece = Uint8Array | Initializer;

const sizeOf = (piece: Piece): number => piece.byteLength;

function header(tensor: Initializer): Partial<TensorProto> {
  return { dims: tensor.dims, data_type: dataTypes[tensor.dtype], name: tensor.name };
}

/** One initializer with its values in the model's own file. */
function inline(tensor: Initializer): Piece[] {
  const head = encode('Tensor', header(tensor));
  const data = lengthDelimited(fieldNumbers.rawData, tensor.byteLength);
  const length = head.length + data.length + tensor.byteLength;
  return [lengthDelimited(fieldNumbers.initializer, length), head, data, tensor];
}

/** One initializer whose values lie in `location` at `offset`. */
function reference(tensor: Initializer, location: string, offset: number): Piece[] {
  const message = encode('Tensor', {
    ...header(tensor),
    external_data: [
      { key: 'location', value: location },
      { key: 'offset', value: String(offset) },
      { key: 'length', value: String(tensor.byteLength) },
    ],
    data_location: EXTERNAL,
  });
  return [lengthDelimited(fieldNumbers.initializer, message.length), message];
}

/** Small pieces are gathered into one write. */
const GATHERED = 1 << 16;

async function writePieces(file: string, pieces: Iterable<Piece>): Promise<void> {
  const handle = await fs.open(file, 'wx');
  try {
    let small: Uint8Array[] = [];
    let held = 0;
    const flush = async (): Promise<void> => {
      if (held > 0) await handle.writeFile(Buffer.concat(small));
      small = [];
      held = 0;
    };
    for (const piece of pieces) {
      const bytes = piece instanceof Uint8Array ? piece : piece.bytes();
      if (bytes.byteLength !== piece.byteLength) {
        throw new RangeError(`a tensor has ${bytes.byteLength} bytes instead of ${piece.byteLength}`);
      }
      if (bytes.byteLength >= GATHERED) {
        await flush();
        await handle.writeFile(bytes);
        continue;
      }
      small.push(bytes);
      held += bytes.byteLength;
      if (held >= GATHERED) await flush();
    }
    await flush();
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The tensors one after another, with zeros between them. */
function* padded(tensors: readonly { tensor: Initializer; offset: number }[]): Generator<Piece> {
  let position = 0;
  for (const { tensor, offset } of tensors) {
    if (offset > position) yield new Uint8Array(offset - position);
    yield tensor;
    position = offset + tensor.byteLength;
  }
}

/**
 * Writes `model` with `initializers` (its own list is empty) to `file` and flushes it.
 * @returns whether there is a second file
 */
export async function writeModel(
  file: string,
  model: Omit<ModelProto, 'graph'> & { graph: Omit<GraphProto, 'initializer'> },
  initializers: readonly Initializer[],
  options: StreamOptions,
): Promise<boolean> {
  const { graph, ...rest } = model;
  const graphBytes = encode('Graph', graph);
  const ownBytes = encode('Model', rest);
  const all = initializers.reduce((sum, { byteLength, name }) => sum + byteLength + name.length + 128, 0);
  const external = options.external ?? graphBytes.length + ownBytes.length + all > MAX_MESSAGE;
  const outside: { tensor: Initializer; offset: number }[] = [];
  let end = 0;
  const pieces = initializers.flatMap((tensor) => {
    if (!external || tensor.byteLength < MIN_EXTERNAL) return inline(tensor);
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    end = offset + tensor.byteLength;
    outside.push({ tensor, offset });
    return reference(tensor, path.basename(options.dataFile), offset);
  });
  if (outside.length > 0) await writePieces(options.dataFile, padded(outside));
  const length = graphBytes.length + pieces.reduce((sum, piece) => sum + sizeOf(piece), 0);
  await writePieces(file, [ownBytes, lengthDelimited(fieldNumbers.graph, length), graphBytes, ...pieces]);
  return outside.length > 0;
}
