/**
 * Runs ONNX files that Fornax has written, so that an export can be checked without Python. The operators are read
 * by the specification of ONNX and not by what the writer means: what it got wrong shows as a different output.
 */
import { ArgumentError, WeightsError } from '../../../errors.js';
import type { DType, Graph } from '../../../graph/format.js';
import { escapeControlCharacters } from '../../../io/control_characters.js';
import type { NativeGraph, NativeInference, NativeTensor } from '../../../native/contract.js';
import { loadAddon } from '../../../native.js';
import { OPSET } from '../convert.js';
import type { ModelProto, ValueInfoProto } from '../messages.js';
import { elementType, openOnnx, tensorOf, typedArray, type OnnxFile } from './file.js';
import { layerReaders } from './layers.js';
import { mathReaders } from './math.js';
import { shapeReaders } from './shapes.js';
import { GraphBuilder, OnnxNode, type StoredValue } from './values.js';

const readers = { ...layerReaders, ...mathReaders, ...shapeReaders };

/** Stored tensors up to this size may be shapes, axes or bounds. */
const MAX_KNOWN = 256;

const isHalf = (dtype: DType): boolean => dtype === 'float16' || dtype === 'bfloat16';

export class OnnxModel {
  private native: NativeGraph | null = null;
  private session: NativeInference | null = null;
  private shapes = '';

  private constructor(
    private readonly file: string,
    readonly proto: ModelProto,
    private readonly stored: StoredValue[],
  ) {}

  /**
   * Opens a file and reads its weights.
   * @throws WeightsError for a file that is missing, damaged, or not one that Fornax writes
   */
  static async open(file: string): Promise<OnnxModel> {
    return OnnxModel.from(await openOnnx(file, OPSET), file);
  }

  /** The part of `open` after the file is parsed. */
  static async from(opened: OnnxFile, file: string): Promise<OnnxModel> {
    const { model: proto, tensors } = opened;
    const stored: StoredValue[] = [];
    for (const tensor of tensors) {
      const count = tensor.dims.reduce((a, b) => a * b, 1);
      const numbers =
        count <= MAX_KNOWN && !isHalf(tensor.dtype)
          ? Array.from(typedArray(tensor.dtype, await tensor.load()), Number)
          : null;
      stored.push({ name: tensor.name, dtype: tensor.dtype, dims: tensor.dims, numbers });
    }
    const model = new OnnxModel(file, proto, stored);
    try {
      await model.load(tensors);
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }

  /** Its weights are in a graph that does nothing yet: what it computes depends on the sizes of the inputs. */
  private async load(tensors: OnnxFile['tensors']): Promise<void> {
    const g = new GraphBuilder(this.file);
    for (const { name, dtype, dims } of this.inputs)
      g.input(
        name,
        dims.map(() => 1),
        dtype,
      );
    for (const tensor of this.stored) g.stored(tensor);
    const graph = g.finish(this.inputs.slice(0, 1).map(({ name }) => name));
    this.native = new (loadAddon().Graph)(graph, { trusted: false });
    for (const tensor of tensors) {
      const value = tensorOf(tensor, await tensor.load());
      try {
        this.native.loadState({ [tensor.name]: value }, { strict: false });
      } finally {
        value.dispose();
      }
    }
    // What the file held is in the graph now.
    this.proto.graph.initializer = [];
    tensors.length = 0;
  }

  /** As the file declares them: names stand for lengths that are free. */
  get inputs(): { name: string; dtype: DType; dims: (number | string)[] }[] {
    return this.proto.graph.input.map((port) => ({ name: port.name, ...this.typeOf(port) }));
  }

  get metadata(): ReadonlyMap<string, string> {
    return new Map(this.proto.metadata_props.map(({ key, value }) => [key, value]));
  }

  private typeOf({ name, type }: ValueInfoProto): { dtype: DType; dims: (number | string)[] } {
    const { elem_type: code, shape } = type.tensor_type;
    if (shape === undefined || shape.dim.length > 16) {
      throw this.error(`the shape of '${name}' is not declared`);
    }
    const dims = shape.dim.map(({ dim_value: length, dim_param: free }, i) => {
      if (length === undefined) return free ?? `${name}_${i}`;
      if (!Number.isSafeInteger(length) || length < 0)
        throw this.error(`the shape of '${name}' is not valid`);
      return length;
    });
    return { dtype: elementType(code, this.file), dims };
  }

  /** The graph for inputs of these shapes. */
  private build(shapes: readonly (readonly number[])[]): Graph {
    const g = new GraphBuilder(this.file);
    const free = new Map<string, number>();
    for (const [i, { name, dtype, dims }] of this.inputs.entries()) {
      this.checkShape(name, shapes[i]!, dims, free);
      g.input(name, shapes[i]!, dtype);
    }
    for (const tensor of this.stored) g.stored(tensor);
    for (const proto of this.proto.graph.node) {
      const reader = Object.hasOwn(readers, proto.op_type) ? readers[proto.op_type]! : null;
      const node = new OnnxNode(proto, g);
      if (reader === null || (proto.domain ?? '') !== '') throw node.error('this operator is not known');
      const results = reader(node);
      node.checkAllRead();
      const values = Array.isArray(results) ? results : [results];
      if (proto.output.length > values.length) throw node.error('more results than the operator has');
      for (const [i, name] of proto.output.entries()) g.define(name, values[i]!);
    }
    const { output } = this.proto.graph;
    for (const port of output) {
      const { dtype, dims } = this.typeOf(port);
      const value = g.lookUp(port.name);
      if (value.dtype !== dtype)
        throw this.error(`'${port.name}' is declared ${dtype}, but is ${value.dtype}`);
      this.checkShape(port.name, g.shape(value), dims, free);
    }
    return g.finish(output.map(({ name }) => name));
  }

  private checkShape(
    name: string,
    shape: readonly number[],
    dims: readonly (number | string)[],
    free: Map<string, number>,
  ): void {
    const fits =
      shape.length === dims.length &&
      dims.every((length, i) => {
        if (typeof length === 'number') return length === shape[i];
        if (!free.has(length)) free.set(length, shape[i]!);
        return free.get(length) === shape[i];
      });
    if (fits) return;
    throw new ArgumentError({
      what: escapeControlCharacters(
        `'${name.slice(0, 200)}' has the shape [${shape.join(', ')}]; the file declares [${dims.join(', ').slice(0, 200)}]`,
      ),
      where: this.file,
    });
  }

  /**
   * Outputs by name.
   * @throws ArgumentError for inputs of other shapes than declared; WeightsError for a graph that is not sound
   */
  async forward(inputs: Record<string, NativeTensor>): Promise<Record<string, NativeTensor>> {
    const declared = this.inputs;
    const given = declared.map(({ name, dtype }) => {
      const tensor = Object.hasOwn(inputs, name) ? inputs[name]! : null;
      if (tensor?.dtype !== dtype)
        throw new ArgumentError(`the input '${name}' must be a tensor of ${dtype}`);
      return tensor.shape;
    });
    const key = JSON.stringify(given);
    if (this.native === null) throw new ArgumentError('the model is disposed');
    if (this.session === null || this.shapes !== key) {
      this.session?.dispose();
      this.session = null;
      this.native.replaceGraph(this.build(given));
      this.session = new (loadAddon().InferenceSession)(this.native, {});
      this.shapes = key;
    }
    return this.session.forward(inputs);
  }

  dispose(): void {
    this.session?.dispose();
    this.native?.dispose();
    this.session = null;
    this.native = null;
  }

  private error(what: string): WeightsError {
    return new WeightsError({ what: escapeControlCharacters(what.slice(0, 500)), where: this.file });
  }
}
