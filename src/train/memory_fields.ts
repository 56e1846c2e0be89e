/** From what a script gives as samples to one tensor for each field. */
import { DataError } from '../errors.js';
import type { DType } from '../graph/format.js';
import type { TypedArray } from '../native/contract.js';
import { Tensor, type NestedNumbers } from '../tensor.js';
import type { MemorySplit } from './memory_data.js';

/** Values one after another, and how they are to be cut. */
export interface FlatValues {
  data: TypedArray;
  shape: readonly number[];
  dtype?: DType;
}

/** A field of all samples, `[N, …]`. A typed array alone has one number for each sample. */
export type FieldValues = Tensor | TypedArray | FlatValues | NestedNumbers;

/** A field of one sample. A typed array alone is a vector. */
export type SampleValue = FieldValues | boolean | bigint;

export type Sample = Readonly<Record<string, SampleValue>>;

/** Class indices, which losses and metrics want as int64. */
const isIndex = (name: string): boolean => name === 'label' || name === 'mask' || name.endsWith('_offsets');
const INTEGERS = new Set<DType>(['int64', 'int32', 'int16', 'int8', 'uint8', 'bool']);

function isFlat(value: unknown): value is FlatValues {
  return typeof value === 'object' && value !== null && 'data' in value && 'shape' in value;
}

/** A tensor of the script's own is copied, so that it may be disposed of or changed. */
function toTensor(name: string, value: SampleValue, where: string): Tensor {
  try {
    if (typeof value === 'boolean' || typeof value === 'bigint') value = Number(value);
    const tensor =
      value instanceof Tensor
        ? value.to({ device: 'cpu' }).call('aten::clone')
        : isFlat(value)
          ? Tensor.from(value.data, value.shape, value.dtype ? { dtype: value.dtype } : {})
          : Tensor.from(value, undefined, defaultType(name, value));
    if (!isIndex(name) || tensor.dtype === 'int64' || !INTEGERS.has(tensor.dtype)) return tensor;
    using narrow = tensor;
    return narrow.to({ dtype: 'int64' });
  } catch (error) {
    throw new DataError({ what: (error as Error).message, where, cause: error });
  }
}

function defaultType(name: string, value: TypedArray | NestedNumbers): { dtype?: DType } {
  return isIndex(name) && !ArrayBuffer.isView(value) ? { dtype: 'int64' } : {};
}

function isSequence(split: MemorySplit): split is Iterable<Sample> | AsyncIterable<Sample> {
  return Symbol.iterator in split || Symbol.asyncIterator in split;
}

/**
 * @param split name of the split, for errors.
 * @throws DataError for fields of different lengths, and for samples of different fields or shapes.
 */
export async function collectFields(given: MemorySplit, split: string): Promise<Record<string, Tensor>> {
  const fields = isSequence(given)
    ? await stackSamples(given, split)
    : Object.fromEntries(
        Object.entries(given).map(([name, value]) => [name, toTensor(name, value, `${split}.${name}`)]),
      );
  const isDense = (name: string): boolean => offsetsName(name, fields) === null;
  // The first field counts the samples.
  const entries = Object.entries(fields).sort(([a], [b]) => Number(isDense(b)) - Number(isDense(a)));
  if (entries.length === 0) throw new DataError({ what: 'there are no samples', where: split });
  const [[first, { shape: of }]] = entries as [[string, Tensor]];
  for (const [name, { shape }] of entries) {
    const where = `${split}.${name}`;
    if (shape.length === 0) throw new DataError({ what: 'a field holds one entry for each sample', where });
    const offsets = offsetsName(name, fields);
    if (offsets !== null) {
      requireOffsets(fields, { name, offsets, samples: of[0]!, where });
      continue;
    }
    if (shape[0] !== of[0]) {
      throw new DataError({
        what: `the field has ${shape[0]} samples, '${first}' has ${of[0]}`,
        where,
        fix: 'flat values need their shape: { data, shape: [samples, …] }',
      });
    }
    if (shape[0] === 0) throw new DataError({ what: 'there are no samples', where });
  }
  return Object.fromEntries(entries);
}

/** By which a ragged field is cut into samples: of `face_boxes`, if there is one, `face_offsets`. */
function offsetsName(name: string, fields: Readonly<Record<string, Tensor>>): string | null {
  if (!name.includes('_')) return null;
  const offsets = `${name.split('_', 1)[0]}_offsets`;
  return offsets in fields ? offsets : null;
}

function requireOffsets(
  fields: Readonly<Record<string, Tensor>>,
  given: { name: string; offsets: string; samples: number; where: string },
): void {
  const { name, offsets, samples, where } = given;
  const { shape, dtype } = fields[offsets]!;
  const refuse = (what: string): never => {
    throw new DataError({
      what,
      where,
      fix: 'the values of sample i are those from offsets[i] to offsets[i + 1]',
    });
  };
  if (shape.length !== 1 || dtype !== 'int64' || shape[0] !== samples + 1) {
    refuse(`'${offsets}' needs ${samples + 1} integers, one for each sample and one more`);
  }
  const bounds = Array.from(fields[offsets]!.toTypedArray(), Number);
  if (bounds[0] !== 0 || bounds.some((bound, i) => i > 0 && bound < bounds[i - 1]!)) {
    refuse(`'${offsets}' must begin with 0 and must not fall`);
  }
  const values = fields[name]!.shape[0]!;
  if (name !== offsets && bounds.at(-1) !== values) {
    refuse(`'${offsets}' ends with ${bounds.at(-1)}, but '${name}' has ${values} values`);
  }
}

/** Samples are put into chunks as they come, so that not all of them have a handle at once. */
const CHUNK = 1024;

async function stackSamples(
  samples: Iterable<Sample> | AsyncIterable<Sample>,
  split: string,
): Promise<Record<string, Tensor>> {
  const stacks = new Map<string, { chunks: Tensor[]; open: Tensor[] }>();
  let count = 0;
  for await (const sample of samples) {
    const where = `${split}, sample ${count}`;
    const names = Object.keys(sample);
    if (count === 0) for (const name of names) stacks.set(name, { chunks: [], open: [] });
    const missing = [...stacks.keys()].filter((name) => !names.includes(name));
    const extra = names.filter((name) => !stacks.has(name));
    if (missing.length + extra.length > 0) {
      throw new DataError({
        what: `the sample has ${names.join(', ') || 'no fields'}, the first one ${[...stacks.keys()].join(', ')}`,
        where,
      });
    }
    for (const [name, stack] of stacks) {
      const tensor = toTensor(name, sample[name]!, `${where}, ${name}`);
      const like = stack.open[0] ?? stack.chunks[0];
      const shape = stack.open[0] ? like!.shape : like?.shape.slice(1);
      if (like && (String(shape) !== String(tensor.shape) || like.dtype !== tensor.dtype)) {
        throw new DataError({
          what: `the sample is ${tensor.dtype} [${tensor.shape.join(', ')}], the first one ${like.dtype} [${shape!.join(', ')}]`,
          where: `${where}, ${name}`,
          fix: 'all samples of a field have one shape; what differs in its length is given by field, with offsets',
        });
      }
      stack.open.push(tensor);
      if (stack.open.length === CHUNK) closeChunk(stack);
    }
    count++;
  }
  const joined = [...stacks].map(([name, stack]) => {
    if (stack.open.length > 0) closeChunk(stack);
    const [whole] = Tensor.call('aten::cat', stack.chunks, 0);
    for (const chunk of stack.chunks) chunk.dispose();
    return [name, whole!] as const;
  });
  return Object.fromEntries(joined);
}

function closeChunk(stack: { chunks: Tensor[]; open: Tensor[] }): void {
  const [chunk] = Tensor.call('aten::stack', stack.open, 0);
  for (const tensor of stack.open.splice(0)) tensor.dispose();
  stack.chunks.push(chunk!);
}
