/**
 * The header of a safetensors file: eight bytes of length, then JSON naming every tensor's dtype, shape and
 * byte range, then the bytes. Files come from anywhere, so the reader trusts nothing: it checks lengths, ranges,
 * overlaps, holes, duplicate names and nesting before anything is read or allocated.
 * https://huggingface.co/docs/safetensors
 */
import { WeightsError } from '../errors.js';
import { DTYPE_BYTES } from '../graph/dtypes.js';
import type { DType } from '../graph/format.js';
import type { FileTensor } from '../native/contract.js';
import { escapeControlCharacters } from './control_characters.js';
import { openWeights } from './open_weights.js';
import { checkJson } from './strict_json.js';

/** The reference implementation's limit on the header, in bytes. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 32;
const MAX_TENSORS = 1_000_000;

const DTYPE_OF_CODE: Record<string, DType> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I16: 'int16',
  I8: 'int8',
  U8: 'uint8',
  BOOL: 'bool',
};
const CODE_OF_DTYPE = Object.fromEntries(
  Object.entries(DTYPE_OF_CODE).map(([code, dtype]) => [dtype, code]),
) as Record<DType, string>;

/** Number of elements of a shape; throws RangeError beyond 2⁵³. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (!Number.isSafeInteger(count))
      throw new RangeError(`shape [${shape.join(', ')}] has too many elements`);
  }
  return count;
}

export interface HeaderEntry {
  name: string;
  dtype: DType;
  shape: number[];
}

export interface SafetensorsHeader {
  /** Offsets are absolute (from the start of the file). In the order of their bytes. */
  tensors: FileTensor[];
  metadata: Record<string, string>;
  /** Bytes before the first tensor. */
  headerBytes: number;
}

/**
 * Encodes length and JSON for tensors that follow one another in this order without gaps.
 *
 * @returns the bytes to write first, and where each tensor lies (absolute offsets).
 */
export function encodeHeader(
  entries: readonly HeaderEntry[],
  metadata: Record<string, string> = {},
): { header: Uint8Array; tensors: FileTensor[]; fileBytes: number } {
  const json: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) json.push(['__metadata__', metadata]);
  const tensors: FileTensor[] = [];
  const seen = new Set(['__metadata__']);
  let end = 0;
  for (const { name, dtype, shape } of entries) {
    if (seen.has(name)) throw new WeightsError(`two tensors named '${name}' cannot be written to one file`);
    seen.add(name);
    const length = elementCount(shape) * DTYPE_BYTES[dtype];
    json.push([name, { dtype: CODE_OF_DTYPE[dtype], shape, data_offsets: [end, end + length] }]);
    tensors.push({ name, dtype, shape: [...shape], offset: end, length });
    end += length;
  }
  // Written by hand: an object would move names like '0' to the front.
  const members = json.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
  let text = Buffer.from(`{${members.join(',')}}`, 'utf8');
  // Tensors begin at a multiple of 64 bytes, so that they can be mapped as vectors; the format pads with spaces.
  const padding = (64 - ((8 + text.length) % 64)) % 64;
  text = Buffer.concat([text, Buffer.alloc(padding, ' ')]);
  if (text.length > MAX_HEADER_BYTES) {
    throw new WeightsError(`the header would take ${text.length} bytes, more than the format allows`);
  }
  const header = Buffer.alloc(8 + text.length);
  header.writeBigUInt64LE(BigInt(text.length), 0);
  text.copy(header, 8);
  for (const tensor of tensors) tensor.offset += header.length;
  return { header, tensors, fileBytes: header.length + end };
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/**
 * Parses and checks the JSON part of a header.
 *
 * @param json the JSON part's bytes (without the length).
 * @param fileBytes size of the whole file.
 * @param where named in errors.
 * @throws WeightsError
 */
export function parseHeader(json: Uint8Array, fileBytes: number, where: string): SafetensorsHeader {
  const fail = (what: string, cause?: unknown): never => {
    throw new WeightsError({
      // Names in it come from the file.
      what: escapeControlCharacters(`not a valid safetensors file: ${what}`),
      where,
      fix: 'the file is damaged or was not written completely; write or download it again',
      cause,
    });
  };
  const dataBytes = fileBytes - 8 - json.length;
  let parsed: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(json);
    if (!text.startsWith('{')) fail('the header does not begin with {');
    parsed = JSON.parse(text);
    checkJson(text, { maxDepth: 4 });
  } catch (error) {
    if (error instanceof WeightsError) throw error;
    return fail(`its header is not sound JSON (${(error as Error).message})`, error);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    return fail('the header is no object');

  const metadata: Record<string, string> = {};
  const tensors: FileTensor[] = [];
  const headerBytes = 8 + json.length;
  const entries = Object.entries(parsed as Record<string, unknown>);
  if (entries.length > MAX_TENSORS) fail(`${entries.length} tensors are more than ${MAX_TENSORS}`);
  for (const [name, value] of entries) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return fail(`the entry '${shorten(name)}' is no object`);
    }
    if (name === '__metadata__') {
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== 'string') return fail(`the metadata '${shorten(key)}' is no string`);
        Object.defineProperty(metadata, key, {
          value: text,
          enumerable: true,
          configurable: true,
          writable: true,
        });
      }
      continue;
    }
    tensors.push(parseEntry(name, value as Record<string, unknown>, dataBytes, headerBytes, fail));
  }
  // By position, as they were written: JavaScript moves names like '0' to the front.
  tensors.sort((a, b) => a.offset - b.offset || a.length - b.length);
  checkCoverage(tensors, headerBytes, fileBytes, fail);
  return { tensors, metadata, headerBytes };
}

function parseEntry(
  name: string,
  entry: Record<string, unknown>,
  dataBytes: number,
  headerBytes: number,
  fail: (what: string) => never,
): FileTensor {
  const shown = `'${shorten(name)}'`;
  const unknown = Object.keys(entry).find((key) => !['dtype', 'shape', 'data_offsets'].includes(key));
  if (unknown !== undefined) fail(`tensor ${shown} has an unknown key '${shorten(unknown)}'`);
  const code = entry.dtype;
  const dtype =
    typeof code === 'string' && Object.hasOwn(DTYPE_OF_CODE, code) ? DTYPE_OF_CODE[code] : undefined;
  if (!dtype) return fail(`tensor ${shown} has the unknown dtype ${shorten(String(JSON.stringify(code)))}`);
  const shape = entry.shape;
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isSize)) {
    return fail(`tensor ${shown} has no valid shape`);
  }
  const range: unknown = entry.data_offsets;
  if (!Array.isArray(range) || range.length !== 2 || !range.every(isSize)) {
    return fail(`tensor ${shown} has no valid data_offsets`);
  }
  const [begin, end] = range as [number, number];
  if (begin > end || end > dataBytes) {
    fail(`tensor ${shown} claims the bytes ${begin}…${end}, but the file holds ${dataBytes} bytes of data`);
  }
  let expected: number;
  try {
    expected = elementCount(shape as number[]) * DTYPE_BYTES[dtype];
  } catch (error) {
    return fail(`tensor ${shown}: ${(error as Error).message}`);
  }
  if (expected !== end - begin) {
    fail(
      `tensor ${shown} of ${dtype} [${shape.join(', ')}] needs ${expected} bytes, its range has ${end - begin}`,
    );
  }
  return { name, dtype, shape: shape as number[], offset: headerBytes + begin, length: end - begin };
}

/** Every byte of the data belongs to exactly one tensor. `tensors` are sorted by offset. */
function checkCoverage(
  tensors: readonly FileTensor[],
  headerBytes: number,
  fileBytes: number,
  fail: (what: string) => never,
): void {
  let end = headerBytes;
  let previous = '';
  for (const tensor of tensors) {
    if (tensor.offset < end) fail(`the tensors '${shorten(previous)}' and '${shorten(tensor.name)}' overlap`);
    if (tensor.offset > end)
      fail(`there is a hole of ${tensor.offset - end} bytes before '${shorten(tensor.name)}'`);
    end = tensor.offset + tensor.length;
    previous = tensor.name;
  }
  if (end !== fileBytes) fail(`${fileBytes - end} bytes at its end belong to no tensor`);
}

function shorten(text: string): string {
  return text.length > 80 ? text.slice(0, 77) + '…' : text;
}

/**
 * Reads and checks the header of a file; no tensor is read.
 *
 * @throws WeightsError if the file cannot be opened or its header is not sound.
 */
export async function readHeader(file: string): Promise<SafetensorsHeader> {
  const handle = await openWeights(file);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new WeightsError({ what: 'this is not a file', where: file });
    const length = Buffer.alloc(8);
    const { bytesRead } = await handle.read(length, 0, 8, 0);
    const jsonBytes = bytesRead === 8 ? length.readBigUInt64LE(0) : 0n;
    if (jsonBytes < 2n || jsonBytes > BigInt(Math.min(MAX_HEADER_BYTES, stat.size - 8))) {
      throw new WeightsError({
        what: `not a valid safetensors file: a header of ${jsonBytes} bytes cannot lie in a file of ${stat.size} bytes`,
        where: file,
        fix: 'check that this is a .safetensors file and that it was copied completely',
      });
    }
    const json = Buffer.alloc(Number(jsonBytes));
    const read = await handle.read(json, 0, json.length, 8);
    if (read.bytesRead !== json.length)
      throw new WeightsError({ what: 'the file ends within its header', where: file });
    return parseHeader(json, stat.size, file);
  } finally {
    await handle.close();
  }
}
