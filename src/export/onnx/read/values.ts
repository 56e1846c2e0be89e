/** Builds a graph of libtorch's operators out of an ONNX graph, for inputs of known sizes. */
import { WeightsError } from '../../../errors.js';
import {
  GRAPH_FORMAT_VERSION,
  type DType,
  type Graph,
  type GraphArg,
  type GraphNode,
  type GraphParameter,
  type GraphPort,
} from '../../../graph/format.js';
import { MetaShapes } from '../../../graph/meta_shapes.js';
import { escapeControlCharacters } from '../../../io/control_characters.js';
import type { NodeProto } from '../messages.js';

/**
 * A value of the ONNX graph. Its numbers are known where they are stored in the file (small tensors) or follow from
 * shapes: operators that take shapes, axes or bounds as inputs need them.
 */
export interface Value {
  dtype: DType;
  slot: number | null;
  numbers: readonly number[] | null;
  /** Of a value whose numbers are known. */
  dims: readonly number[] | null;
}

/** A stored tensor as a parameter of the graph. */
export interface StoredValue {
  name: string;
  dtype: DType;
  dims: number[];
  numbers: readonly number[] | null;
}

/** Elements of the largest result: far above any model's, below what exhausts memory by one wrong number. */
const MAX_ELEMENTS = 2 ** 31;

export class GraphBuilder {
  private readonly nodes: GraphNode[] = [];
  private readonly parameters: GraphParameter[] = [];
  private readonly inputs: GraphPort[] = [];
  private readonly shapes = new MetaShapes();
  private readonly dtypes: DType[] = [];
  private readonly values = new Map<string, Value>();

  constructor(readonly file: string) {}

  // ---- names

  define(name: string, value: Value): void {
    if (name === '') return;
    if (this.values.has(name)) throw this.error(`two values are called '${name}'`);
    this.values.set(name, value);
  }

  lookUp(name: string): Value {
    const value = this.values.get(name);
    if (value === undefined) throw this.error(`the value '${name}' is used before it is made`);
    return value;
  }

  input(name: string, shape: readonly number[], dtype: DType): void {
    const slot = this.newSlot(dtype);
    this.inputs.push({ name, slot, rank: shape.length });
    this.shapes.set(slot, shape, dtype);
    this.define(name, { dtype, slot, numbers: null, dims: null });
  }

  stored({ name, dtype, dims, numbers }: StoredValue): void {
    const slot = this.newSlot(dtype);
    const parameter: GraphParameter = {
      name,
      shape: dims,
      dtype,
      kind: 'buffer',
      slot,
      init: { kind: 'constant', value: 0 },
    };
    this.parameters.push(parameter);
    this.shapes.addParameter(parameter);
    this.define(name, { dtype, slot, numbers, dims });
  }

  // ---- nodes

  private newSlot(dtype: DType): number {
    this.dtypes.push(dtype);
    return this.dtypes.length - 1;
  }

  /** Adds a node with one result of the given type. */
  call(op: string, args: GraphArg[], dtype: DType): Value {
    return this.callMany(op, args, [dtype])[0]!;
  }

  callMany(op: string, args: GraphArg[], dtypes: readonly DType[]): Value[] {
    const outs = dtypes.map((dtype) => this.newSlot(dtype));
    const node: GraphNode = { op, path: '', args, outs };
    this.nodes.push(node);
    this.shapes.add(node);
    return outs.map((slot, i) => ({ dtype: dtypes[i]!, slot, numbers: null, dims: null }));
  }

  /** The slot of a value; known numbers become a tensor. */
  slot(value: Value): { slot: number } {
    if (value.slot !== null) return { slot: value.slot };
    const numbers = value.numbers!;
    const fill = (shape: number[], number: number): Value =>
      this.call('aten::full', [shape, number, { dtype: value.dtype }], value.dtype);
    const tensor =
      value.dims!.length === 0
        ? fill([], numbers[0]!)
        : this.call(
            'aten::cat',
            [numbers.map((number) => ({ slot: fill([1], number).slot! })), 0],
            value.dtype,
          );
    value.slot = tensor.slot;
    return { slot: tensor.slot! };
  }

  shape(value: Value): readonly number[] {
    if (value.dims !== null) return value.dims;
    return this.shapes.of(value.slot!);
  }

  /** Integers that follow from shapes. */
  integers(numbers: readonly number[], dims: readonly number[] = [numbers.length]): Value {
    return { dtype: 'int64', slot: null, numbers, dims };
  }

  finish(outputs: readonly string[]): Graph {
    return {
      format_version: GRAPH_FORMAT_VERSION,
      slots: this.dtypes.length,
      inputs: this.inputs,
      outputs: outputs.map((name) => ({ name, slot: this.slot(this.lookUp(name)).slot })),
      parameters: this.parameters,
      nodes: this.nodes,
      guards: [],
    };
  }

  error(what: string): WeightsError {
    return new WeightsError({ what: escapeControlCharacters(what.slice(0, 500)), where: this.file });
  }
}

/** One node of the ONNX graph: its inputs and attributes, checked as they are read. */
export class OnnxNode {
  private readonly attributes: Map<string, NodeProto['attribute'][number]>;
  private readonly read = new Set<string>();

  constructor(
    readonly proto: NodeProto,
    readonly g: GraphBuilder,
  ) {
    this.attributes = new Map(proto.attribute.map((attribute) => [attribute.name, attribute]));
  }

  // ---- inputs

  has(i: number): boolean {
    return (this.proto.input[i] ?? '') !== '';
  }

  get count(): number {
    return this.proto.input.length;
  }

  value(i: number): Value {
    if (!this.has(i)) throw this.error(`input ${i} is missing`);
    return this.g.lookUp(this.proto.input[i]!);
  }

  x(i: number): { slot: number } {
    return this.g.slot(this.value(i));
  }

  optional(i: number): { slot: number } | null {
    return this.has(i) ? this.x(i) : null;
  }

  dtype(i: number): DType {
    return this.value(i).dtype;
  }

  shape(i: number): readonly number[] {
    return this.g.shape(this.value(i));
  }

  rank(i: number): number {
    return this.shape(i).length;
  }

  /** The numbers of an input that must be known: a shape, axes, bounds. */
  numbers(i: number): readonly number[] {
    const { numbers } = this.value(i);
    if (numbers === null) throw this.error(`input ${i} must be known when the file is read`);
    return numbers;
  }

  /** Axes counted from 0. */
  axes(values: readonly number[], rank: number): number[] {
    return values.map((axis) => {
      if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
        throw this.error(`axis ${axis} of ${rank} dimensions`);
      }
      return axis < 0 ? axis + rank : axis;
    });
  }

  /** All inputs have the same element type, as most operators demand. */
  sameType(...indices: number[]): DType {
    const dtype = this.dtype(indices[0]!);
    for (const i of indices) {
      if (this.has(i) && this.dtype(i) !== dtype) {
        throw this.error(`inputs of the types ${dtype} and ${this.dtype(i)}`);
      }
    }
    return dtype;
  }

  // ---- attributes

  private attribute(name: string, field: 'i' | 'f' | 's' | 'ints'): unknown {
    this.read.add(name);
    const attribute = this.attributes.get(name);
    if (attribute === undefined) return undefined;
    const types = { i: 2, f: 1, s: 3, ints: 7 };
    if (attribute.type !== types[field]) throw this.error(`the attribute ${name} is of another type`);
    return attribute[field];
  }

  int(name: string, fallback?: number): number {
    const value = (this.attribute(name, 'i') as number | undefined) ?? fallback;
    if (value === undefined) throw this.error(`the attribute ${name} is missing`);
    if (!Number.isSafeInteger(value)) throw this.error(`the attribute ${name} is not a sound integer`);
    return value;
  }

  float(name: string, fallback: number): number {
    const value = (this.attribute(name, 'f') as number | undefined) ?? fallback;
    if (!Number.isFinite(value)) throw this.error(`the attribute ${name} is not a finite number`);
    return value;
  }

  text(name: string, fallback: string): string {
    const bytes = this.attribute(name, 's') as Uint8Array | undefined;
    return bytes === undefined ? fallback : Buffer.from(bytes).toString();
  }

  ints(name: string, fallback?: readonly number[]): number[] {
    const values = (this.attribute(name, 'ints') as number[] | undefined) ?? fallback;
    if (values === undefined) throw this.error(`the attribute ${name} is missing`);
    if (values.length > 64 || !values.every(Number.isSafeInteger)) {
      throw this.error(`the attribute ${name} is not a sound list`);
    }
    return [...values];
  }

  /** An attribute that nothing asked about changes what the operator means. */
  checkAllRead(): void {
    for (const name of this.attributes.keys()) {
      if (!this.read.has(name)) throw this.error(`the attribute ${name} is not known`);
    }
  }

  // ---- results

  call(op: string, args: GraphArg[], dtype: DType = this.dtype(0)): Value {
    return this.g.call(op, args, dtype);
  }

  /** Refuses results that one wrong number would make larger than memory. */
  bounded(shape: readonly number[]): void {
    if (
      !shape.every((n) => Number.isSafeInteger(n) && n >= 0) ||
      shape.reduce((a, b) => a * b, 1) > MAX_ELEMENTS
    ) {
      throw this.error(`a result of the shape [${shape.slice(0, 16).join(', ')}]`);
    }
  }

  error(what: string): WeightsError {
    const { op_type: op, name } = this.proto;
    return this.g.error(`${op.slice(0, 60)} ${name.slice(0, 200)}: ${what}`);
  }
}

/** Adds an ONNX node's counterparts and returns its results. */
export type NodeReader = (node: OnnxNode) => Value | Value[];
export type NodeReaderTable = Readonly<Record<string, NodeReader>>;
