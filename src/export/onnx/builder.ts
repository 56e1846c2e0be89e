/** Collects the nodes and constants of an ONNX graph and keeps names unique. */
import { DTYPE_BYTES } from '../../graph/dtypes.js';
import type { DType } from '../../graph/format.js';
import type { NativeTensor } from '../../native/contract.js';
import { loadAddon } from '../../native.js';
import { attributeTypes, type AttributeProto, type NodeProto } from './messages.js';

/** A tensor whose bytes are fetched when the file is written: the weights are never in memory twice at once. */
export interface Initializer {
  name: string;
  dtype: DType;
  dims: number[];
  byteLength: number;
  bytes: () => Uint8Array;
}

/** A float attribute: numbers alone are integers. */
export interface FloatAttribute {
  float: number;
}
export const float = (value: number): FloatAttribute => ({ float: value });

export type Attributes = Record<string, number | readonly number[] | string | FloatAttribute | undefined>;

function attribute(name: string, value: NonNullable<Attributes[string]>): AttributeProto {
  if (typeof value === 'number') return { name, type: attributeTypes.INT, i: value };
  if (typeof value === 'string') return { name, type: attributeTypes.STRING, s: Buffer.from(value) };
  if ('float' in value) return { name, type: attributeTypes.FLOAT, f: value.float };
  return { name, type: attributeTypes.INTS, ints: [...value] };
}

const elements = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

/** The elements of a CPU tensor as they lie in memory, little endian. */
export function tensorBytes(tensor: NativeTensor): Uint8Array {
  // Half precision comes as float32 from toTypedArray: its bits are read as integers.
  const half = tensor.dtype === 'float16' || tensor.dtype === 'bfloat16';
  const raw = half ? loadAddon().Tensor.call('aten::view.dtype', [tensor, { dtype: 'int16' }])[0]! : tensor;
  try {
    const { buffer, byteOffset, byteLength } = raw.toTypedArray();
    return new Uint8Array(buffer, byteOffset, byteLength);
  } finally {
    if (raw !== tensor) raw.dispose();
  }
}

type ConstantArray = Float32Array | Float64Array | BigInt64Array | Int32Array | Uint8Array;

function arrayOf(values: readonly number[], dtype: DType): ConstantArray {
  switch (dtype) {
    case 'float32':
      return Float32Array.from(values);
    case 'float64':
      return Float64Array.from(values);
    case 'int64':
      return BigInt64Array.from(values, (v) => BigInt.asIntN(64, BigInt(v)));
    case 'int32':
      return Int32Array.from(values);
    case 'bool':
    case 'uint8':
      return Uint8Array.from(values);
    default:
      throw new RangeError(dtype);
  }
}

export class OnnxBuilder {
  readonly nodes: NodeProto[] = [];
  readonly initializers: Initializer[] = [];
  private readonly names = new Set<string>();
  private readonly counts = new Map<string, number>();
  private readonly constants = new Map<string, string>();

  /** Takes a name that must be kept as it is (inputs and outputs); false if it is taken. */
  reserve(name: string): boolean {
    if (name === '' || this.names.has(name)) return false;
    this.names.add(name);
    return true;
  }

  /** `name`, or with a number behind it if that is taken. */
  unique(name: string): string {
    let candidate = name;
    while (!this.reserve(candidate)) {
      const count = (this.counts.get(name) ?? 0) + 1;
      this.counts.set(name, count);
      candidate = `${name}_${count}`;
    }
    return candidate;
  }

  /** Adds a node of the module at `path` and returns the names of its results. Absent inputs are ''. */
  node(
    path: string,
    op: string,
    inputs: readonly string[],
    attributes: Attributes = {},
    outputs = 1,
  ): string[] {
    const scope = path === '' ? '' : `/${path.replaceAll('.', '/')}`;
    const name = this.unique(`${scope}/${op}`);
    const output = Array.from({ length: outputs }, (_, i) => this.unique(`${name}_output_${i}`));
    const input = [...inputs];
    while (input.at(-1) === '') input.pop();
    this.nodes.push({
      input,
      output,
      name,
      op_type: op,
      attribute: Object.entries(attributes).flatMap(([key, value]) =>
        value === undefined ? [] : [attribute(key, value)],
      ),
    });
    return output;
  }

  /** Gives a value a second name. */
  identity(value: string, name: string): void {
    this.nodes.push({
      input: [value],
      output: [name],
      name: this.unique('/Identity'),
      op_type: 'Identity',
      attribute: [],
    });
  }

  /** A constant tensor; the same values share one. `dims` default to one dimension; [] is a scalar. */
  constant(values: readonly number[], dtype: DType, dims: readonly number[] = [values.length]): string {
    const direct = dtype !== 'float16' && dtype !== 'bfloat16' && dtype !== 'int8' && dtype !== 'int16';
    const key = `${dtype}:${dims.join()}:${values.join()}`;
    const known = this.constants.get(key);
    if (known !== undefined) return known;
    const { buffer } = direct ? arrayOf(values, dtype) : { buffer: convertedBytes(values, dtype) };
    const name = this.initializer('constant', dtype, [...dims], () => new Uint8Array(buffer));
    this.constants.set(key, name);
    return name;
  }

  /** Adds stored values under `name` (or one like it) and returns the name. */
  initializer(name: string, dtype: DType, dims: number[], bytes: () => Uint8Array): string {
    const unique = this.unique(name);
    this.initializers.push({
      name: unique,
      dtype,
      dims,
      byteLength: elements(dims) * DTYPE_BYTES[dtype],
      bytes,
    });
    return unique;
  }

  /** Gives a result another name, in the node that makes it and wherever it is used. */
  rename(from: string, to: string): void {
    for (const node of this.nodes) {
      node.input = node.input.map((name) => (name === from ? to : name));
      node.output = node.output.map((name) => (name === from ? to : name));
    }
  }
}

/** Values of the types that JavaScript has no suitable array for, converted by libtorch. */
function convertedBytes(values: readonly number[], dtype: DType): ArrayBufferLike {
  const source = loadAddon().Tensor.fromTypedArray(Float64Array.from(values), [values.length]);
  const tensor = source.to({ dtype });
  try {
    return tensorBytes(tensor).slice().buffer;
  } finally {
    source.dispose();
    tensor.dispose();
  }
}
