/** The walk over a lowered graph: each node becomes its counterparts in ONNX (see operators.ts). */
import { ExportError } from '../../errors.js';
import type { GraphArg, GraphNode } from '../../graph/format.js';
import { nodeName } from '../../graph/reader.js';
import { forEachArgumentSlot } from '../../graph/slots.js';
import type { NativeTensor } from '../../native/contract.js';
import { loadAddon } from '../../native.js';
import type { ExportSource } from '../format.js';
import { OnnxBuilder, tensorBytes } from './builder.js';
import { slotOf } from './arguments.js';
import { Conversion } from './conversion.js';
import { converters } from './operators.js';
import { dataTypes, type ValueInfoProto } from './messages.js';
import { Shapes } from './shapes.js';
import { Weights } from './weights.js';

/** Antialiased Resize needs 18; nothing newer is needed, and what reads ONNX today reads 18 (IR version 8). */
export const OPSET = 18;

export interface ConvertedGraph {
  builder: OnnxBuilder;
  inputs: ValueInfoProto[];
  outputs: ValueInfoProto[];
}

/** Larger tables would make files grow: they are computed when the file is run. */
const MAX_FOLDED_ELEMENTS = 1 << 24;

/** Operators that draw random numbers: their result is no constant. */
const DRAWS = /^aten::(rand|normal|bernoulli|multinomial|poisson|exponential|dropout)/;

class Walk {
  private readonly builder = new OnnxBuilder();
  private readonly shapes: Shapes;
  private readonly weights: Weights;
  /** ONNX names of inputs and results. */
  private readonly names = new Map<number, string>();
  /** Results that depend on nothing, computed here. */
  private readonly constants = new Map<number, NativeTensor>();
  private readonly sizeNames = new Map<string, string>();
  private readonly readers = new Map<number, Set<string>>();

  constructor(private readonly source: ExportSource) {
    const { graph, state } = source;
    this.shapes = new Shapes(source);
    this.weights = new Weights(
      new Map(graph.parameters.map(({ slot }, i) => [slot, state[i]!])),
      this.builder,
    );
    for (const { op, args } of graph.nodes) {
      for (const arg of args) {
        forEachArgumentSlot(arg, (slot) => {
          this.readers.set(slot, (this.readers.get(slot) ?? new Set()).add(op));
        });
      }
    }
  }

  run(): ConvertedGraph {
    const { graph } = this.source;
    try {
      for (const { name } of [...graph.inputs, ...graph.outputs]) {
        if (!this.builder.reserve(name)) {
          throw new ExportError({
            what: `two inputs or outputs are called '${name}', which ONNX does not allow`,
            fix: 'give one of them another name',
          });
        }
      }
      for (const { name, slot } of graph.inputs) this.names.set(slot, name);
      for (const [i, node] of graph.nodes.entries()) this.convert(node, i);
      for (const { name, slot } of graph.outputs) this.bindOutput(name, slot);
      return {
        builder: this.builder,
        inputs: graph.inputs.map(({ name, slot }) => this.info(name, slot)),
        outputs: graph.outputs.map(({ name, slot }) => this.info(name, slot)),
      };
    } finally {
      for (const tensor of this.constants.values()) tensor.dispose();
    }
  }

  private convert(node: GraphNode, i: number): void {
    if (this.folds(node)) {
      this.fold(node);
      return;
    }
    const converter = Object.hasOwn(converters, node.op) ? converters[node.op]! : null;
    if (converter === null) {
      throw new ExportError({
        what: `the operator '${node.op}' has no counterpart in ONNX opset ${OPSET} that Fornax knows of`,
        where: nodeName(node, i),
        fix: 'write it with other operators, or choose another format',
      });
    }
    const context = new Conversion(
      node,
      i,
      this.shapes,
      this.builder,
      this.weights,
      (slot) => this.nameOf(slot),
      this.sizeNames,
      (slot) => this.readers.get(slot) ?? new Set(),
    );
    const converted = converter(context);
    const results = Array.isArray(converted) ? converted : [converted];
    for (const [j, slot] of node.outs.entries()) {
      if (slot !== null) this.names.set(slot, results[j]!);
    }
  }

  /** Nothing it uses depends on the input or on a weight, but for lengths that never change. */
  private folds(node: GraphNode): boolean {
    const { shapes, constants } = this;
    let constant = !DRAWS.test(node.op);
    const visit = (arg: GraphArg): void => {
      if (Array.isArray(arg)) arg.forEach(visit);
      else if (slotOf(arg) !== null) constant &&= constants.has(slotOf(arg)!);
      else if (typeof arg === 'object' && arg !== null && 'expr' in arg)
        constant &&= shapes.fold(arg.expr) !== null;
    };
    node.args.forEach(visit);
    return (
      constant &&
      node.outs.every(
        (slot) => slot === null || shapes.example(slot).reduce((a, b) => a * b, 1) <= MAX_FOLDED_ELEMENTS,
      )
    );
  }

  private fold(node: GraphNode): void {
    const prepare = (arg: GraphArg): GraphArg | NativeTensor => {
      const slot = slotOf(arg);
      if (slot !== null) return this.constants.get(slot)!;
      if (Array.isArray(arg)) return arg.map(prepare) as GraphArg[];
      if (typeof arg === 'object' && arg !== null && 'expr' in arg) return this.shapes.fold(arg.expr)!;
      return arg;
    };
    const args = node.args.map(prepare) as Parameters<ReturnType<typeof loadAddon>['Tensor']['call']>[1];
    const results = loadAddon().Tensor.call(node.op, args);
    for (const [j, tensor] of results.entries()) {
      const slot = node.outs[j] ?? null;
      if (slot === null) tensor.dispose();
      else this.constants.set(slot, tensor);
    }
  }

  private nameOf(slot: number): string {
    const known = this.names.get(slot);
    if (known !== undefined) return known;
    const constant = this.constants.get(slot);
    if (constant === undefined) return this.weights.name(slot);
    const bytes = tensorBytes(constant);
    const name = this.builder.initializer('constant', constant.dtype, constant.shape, () => bytes);
    this.names.set(slot, name);
    return name;
  }

  /** An output has its own name: that of the node's result, unless it is something else already. */
  private bindOutput(name: string, slot: number): void {
    const value = this.nameOf(slot);
    const made = this.builder.nodes.some(({ output }) => output.includes(value));
    const taken = this.source.graph.outputs.some((port) => port.name === value);
    if (made && !taken) {
      this.builder.rename(value, name);
      for (const [other, known] of this.names) if (known === value) this.names.set(other, name);
    } else {
      this.builder.identity(value, name);
    }
  }

  private info(name: string, slot: number): ValueInfoProto {
    const dim = this.shapes
      .declared(slot)
      .map((length) =>
        length === null ? {} : typeof length === 'number' ? { dim_value: length } : { dim_param: length },
      );
    return { name, type: { tensor_type: { elem_type: dataTypes[this.shapes.dtype(slot)], shape: { dim } } } };
  }
}

/** Whether a model can be written is asked before it is: what was found then is kept as long as the source. */
const converted = new WeakMap<ExportSource, ConvertedGraph>();

/**
 * The ONNX graph of a lowered model.
 * @throws ExportError that names the node for which ONNX has no counterpart
 */
export function convert(source: ExportSource): ConvertedGraph {
  let graph = converted.get(source);
  if (graph === undefined) {
    graph = new Walk(source).run();
    converted.set(source, graph);
  }
  return graph;
}
