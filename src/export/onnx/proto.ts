/**
 * Protobuf encoding of the messages in messages.ts, by one table of field numbers for both directions. Fields that are
 * not listed are skipped when reading.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

import { WeightsError } from '../../errors.js';
import type {
  AttributeProto,
  Dimension,
  GraphProto,
  KeyValue,
  ModelProto,
  NodeProto,
  TensorProto,
  ValueInfoProto,
} from './messages.js';

interface Messages {
  KeyValue: KeyValue;
  Tensor: TensorProto;
  Attribute: AttributeProto;
  Node: NodeProto;
  Dimension: Dimension;
  Shape: { dim: Dimension[] };
  TensorType: { elem_type: number; shape?: { dim: Dimension[] } };
  Type: { tensor_type: { elem_type: number } };
  ValueInfo: ValueInfoProto;
  Graph: GraphProto;
  OperatorSet: { domain: string; version: number };
  Model: ModelProto;
}

type MessageName = keyof Messages;
type Scalar = 'int' | 'float' | 'string' | 'bytes';

interface Field {
  number: number;
  type: Scalar | MessageName;
  repeated: boolean;
}

function field(number: number, type: Field['type'], repeated = false): Field {
  return { number, type, repeated };
}
const many = (number: number, type: Field['type']): Field => field(number, type, true);

const messages: Record<MessageName, Record<string, Field>> = {
  KeyValue: { key: field(1, 'string'), value: field(2, 'string') },
  Tensor: {
    dims: many(1, 'int'),
    data_type: field(2, 'int'),
    name: field(8, 'string'),
    raw_data: field(9, 'bytes'),
    external_data: many(13, 'KeyValue'),
    data_location: field(14, 'int'),
  },
  Attribute: {
    name: field(1, 'string'),
    f: field(2, 'float'),
    i: field(3, 'int'),
    s: field(4, 'bytes'),
    t: field(5, 'Tensor'),
    floats: many(7, 'float'),
    ints: many(8, 'int'),
    strings: many(9, 'bytes'),
    type: field(20, 'int'),
  },
  Node: {
    input: many(1, 'string'),
    output: many(2, 'string'),
    name: field(3, 'string'),
    op_type: field(4, 'string'),
    attribute: many(5, 'Attribute'),
    domain: field(7, 'string'),
  },
  Dimension: { dim_value: field(1, 'int'), dim_param: field(2, 'string') },
  Shape: { dim: many(1, 'Dimension') },
  TensorType: { elem_type: field(1, 'int'), shape: field(2, 'Shape') },
  Type: { tensor_type: field(1, 'TensorType') },
  ValueInfo: { name: field(1, 'string'), type: field(2, 'Type') },
  Graph: {
    node: many(1, 'Node'),
    name: field(2, 'string'),
    initializer: many(5, 'Tensor'),
    input: many(11, 'ValueInfo'),
    output: many(12, 'ValueInfo'),
  },
  OperatorSet: { domain: field(1, 'string'), version: field(2, 'int') },
  Model: {
    ir_version: field(1, 'int'),
    producer_name: field(2, 'string'),
    producer_version: field(3, 'string'),
    graph: field(7, 'Graph'),
    opset_import: many(8, 'OperatorSet'),
    metadata_props: many(14, 'KeyValue'),
  },
};

/** What a field that does not occur in a file means: every scalar of these messages has a default in the types. */
const defaults: Record<Scalar, unknown> = { int: 0, float: 0, string: '', bytes: new Uint8Array() };

/** Fields whose absence has a meaning, so that no default may stand in for it. */
const optional = new Set([
  'raw_data',
  'external_data',
  'data_location',
  't',
  'shape',
  'dim_value',
  'dim_param',
]);

function writeScalar(writer: BinaryWriter, type: Scalar, value: unknown): void {
  if (type === 'int') writer.int64(value as number);
  else if (type === 'float') writer.float(value as number);
  else if (type === 'string') writer.string(value as string);
  else writer.bytes(value as Uint8Array);
}

const wireTypes: Record<Scalar, WireType> = {
  int: WireType.Varint,
  float: WireType.Bit32,
  string: WireType.LengthDelimited,
  bytes: WireType.LengthDelimited,
};

function isScalar(type: Field['type']): type is Scalar {
  return Object.hasOwn(wireTypes, type);
}

function write(writer: BinaryWriter, name: MessageName, message: object): void {
  for (const [key, { number, type, repeated }] of Object.entries(messages[name])) {
    const value = (message as Record<string, unknown>)[key];
    if (value === undefined) continue;
    for (const item of repeated ? (value as unknown[]) : [value]) {
      if (isScalar(type)) {
        writer.tag(number, wireTypes[type]);
        writeScalar(writer, type, item);
      } else {
        writer.tag(number, WireType.LengthDelimited).fork();
        write(writer, type, item as object);
        writer.join();
      }
    }
  }
}

/** The bytes of a message. Fields may be left out: they are then not written. */
export function encode<N extends MessageName>(name: N, message: Partial<Messages[N]>): Uint8Array {
  const writer = new BinaryWriter();
  write(writer, name, message);
  return writer.finish();
}

/** The bytes that announce a field of `length` bytes, which follow. */
export function lengthDelimited(number: number, length: number): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(number, WireType.LengthDelimited);
  writer.int64(length);
  return writer.finish();
}

/** Field numbers that the streaming writer needs (see stream.ts). */
export const fieldNumbers = {
  graph: messages.Model['graph']!.number,
  initializer: messages.Graph['initializer']!.number,
  rawData: messages.Tensor['raw_data']!.number,
} as const;

/** Integers beyond 2⁵³ (an open end of a slice) lose their last bits. */
function readScalar(reader: BinaryReader, type: Scalar): unknown {
  if (type === 'int') return Number(reader.int64());
  if (type === 'float') return reader.float();
  if (type === 'string') return reader.string();
  return reader.bytes();
}

function read(bytes: Uint8Array, name: MessageName, budget: { messages: number }): object {
  if (--budget.messages < 0) throw new RangeError('too many messages');
  const fields = messages[name];
  const byNumber = new Map(Object.entries(fields).map(([key, f]) => [f.number, [key, f] as const]));
  const result: Record<string, unknown> = {};
  for (const [key, { type, repeated }] of Object.entries(fields)) {
    if (optional.has(key)) continue;
    if (repeated) result[key] = [];
    else if (isScalar(type)) result[key] = defaults[type];
  }
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const known = byNumber.get(number);
    if (known === undefined) {
      reader.skip(wireType, number);
      continue;
    }
    const [key, { type, repeated }] = known;
    const store = (value: unknown): void => {
      if (repeated) ((result[key] ??= []) as unknown[]).push(value);
      else result[key] = value;
    };
    if (!isScalar(type)) {
      if (wireType !== WireType.LengthDelimited) throw new RangeError(`${name}.${key} is not a message`);
      store(read(reader.bytes(), type, budget));
    } else if (repeated && wireType === WireType.LengthDelimited && wireTypes[type] !== wireType) {
      // Numbers packed into one field, as other writers do.
      const end = reader.uint32() + reader.pos;
      if (end > reader.len) throw new RangeError(`${name}.${key} ends beyond its message`);
      while (reader.pos < end) store(readScalar(reader, type));
    } else if (wireType === wireTypes[type]) {
      store(readScalar(reader, type));
    } else {
      throw new RangeError(`${name}.${key} has the wire type ${wireType}`);
    }
  }
  for (const [key, { type, repeated }] of Object.entries(fields)) {
    if (!isScalar(type) && !repeated && !optional.has(key) && result[key] === undefined) {
      throw new RangeError(`${name} has no ${key}`);
    }
  }
  return result;
}

/** Far above the largest model of the zoo (some 10,000 nodes with a few attributes each). */
const MAX_MESSAGES = 4_000_000;

/**
 * The message in untrusted bytes. `raw_data` shares their memory.
 * @throws WeightsError
 */
export function decode<N extends MessageName>(name: N, bytes: Uint8Array, where: string): Messages[N] {
  try {
    return read(bytes, name, { messages: MAX_MESSAGES }) as Messages[N];
  } catch (error) {
    throw new WeightsError({
      what: `this is not a sound ONNX file: ${(error as Error).message}`,
      where,
      cause: error,
    });
  }
}
