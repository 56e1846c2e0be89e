/**
 * Tracing: runs a module's forward() with symbolic tensors and returns what it did as a graph. See
 * docs/architecture.md; the format is in format.ts.
 */
import { ArgumentError, GraphError } from '../errors.js';
import { Module } from '../nn/module.js';
import type { Buffer, Parameter } from '../nn/parameter.js';
import { Parameter as ParameterClass } from '../nn/parameter.js';
import { recording, type CallArgument, type Recorder } from '../nn/recorder.js';
import { SymInt } from '../nn/sym_int.js';
import { AuxiliaryTensor, SymbolicTensor } from '../nn/tensor.js';
import {
  GRAPH_FORMAT_VERSION,
  type DType,
  type Graph,
  type GraphArg,
  type GraphGuard,
  type GraphNode,
  type GraphParameter,
  type GraphPort,
  type SizeExpr,
} from './format.js';
import { MetaShapes } from './meta_shapes.js';
import { dtypes } from './dtypes.js';
import { modeKinds } from './reader.js';
import type { Comparison } from './size_expr.js';

export interface InputSpec {
  /** Name of the input: the field of the batch that feeds it (`image`). */
  name: string;
  /**
   * Example shape, `[N, C, H, W]`: answers comparisons of sizes while tracing. The graph stays generic. Null: not
   * known, and a comparison that needs it is an error.
   */
  shape: readonly number[] | null;
  /** Default float32. */
  dtype?: DType;
}

export interface TraceOptions {
  /** One per argument of forward(). Shapes alone get names: `image` for a single input, else `input_0`, … */
  inputs: readonly (InputSpec | readonly number[])[];
  /** Name of the output where forward() returns a single tensor. Default `output`. */
  output?: string;
}

/** What forward() may return. */
export type ModuleOutput =
  SymbolicTensor | readonly SymbolicTensor[] | Readonly<Record<string, SymbolicTensor>>;

const operatorName = /^[A-Za-z_]\w*::[A-Za-z_]\w*(\.\w+)?$/;
class Tracer implements Recorder {
  private readonly root: Module;
  private readonly nodes: GraphNode[] = [];
  private readonly guards: GraphGuard[] = [];
  private readonly parameters: GraphParameter[] = [];
  private readonly stateSlots = new Map<SymbolicTensor, number>();
  private readonly paths = new Map<object, string>();
  private readonly shapes: MetaShapes;
  private slots = 0;
  private path = '';

  constructor(root: Module) {
    this.root = root;
    this.shapes = new MetaShapes();
  }

  run(inputs: readonly Required<InputSpec>[], outputName: string): Graph {
    const ports: GraphPort[] = inputs.map(({ name, shape, dtype }) => {
      const slot = this.slots++;
      if (shape === null) return { name, slot };
      this.shapes.set(slot, shape, dtype);
      return { name, slot, rank: shape.length };
    });
    for (const [path, module] of this.root.namedModules()) this.paths.set(module, path);
    for (const { name, tensor } of this.root.namedState()) this.addState(name, tensor);
    const tensors = ports.map(({ slot }) => new SymbolicTensor(this, slot));
    const result: unknown = recording(this, () => this.root.forward(...tensors) as unknown);
    return {
      format_version: GRAPH_FORMAT_VERSION,
      inputs: ports,
      outputs: this.outputPorts(result, outputName),
      parameters: this.parameters,
      nodes: this.nodes,
      guards: this.guards,
      slots: this.slots,
    };
  }

  record(op: string, args: readonly CallArgument[], outputs: number): SymbolicTensor[] {
    if (!operatorName.test(op)) {
      throw this.error(`'${op}' is not the name of an operator`, "write it as 'aten::add.Tensor'");
    }
    if (!Number.isSafeInteger(outputs) || outputs < 1) {
      throw this.error(`${op}: the number of outputs must be at least 1, not ${String(outputs)}`);
    }
    const converted = args.map((arg) => this.argument(op, arg));
    const outs = Array.from({ length: outputs }, () => this.slots++);
    const node: GraphNode = { op, path: this.path, args: converted, outs };
    this.nodes.push(node);
    this.shapes.add(node);
    return outs.map((slot) => new SymbolicTensor(this, slot));
  }

  slotOf(tensor: SymbolicTensor): number {
    if (tensor.recorder === this && tensor.slot !== null) return tensor.slot;
    const slot = this.stateSlots.get(tensor);
    if (slot !== undefined) return slot;
    if (tensor.recorder !== null) {
      throw this.error('a tensor of another trace was used', 'keep no tensors in attributes between calls');
    }
    throw this.error(
      `a ${tensor.constructor.name.toLowerCase()} was used that is not in the module's state`,
      'assign it, or the module that owns it, to an attribute; collect modules in a ModuleList, not in an array',
    );
  }

  shapeOf(slot: number): readonly number[] {
    return this.shapes.of(slot);
  }

  guard(left: SizeExpr, comparison: Comparison, right: SizeExpr): void {
    const guard: GraphGuard = { left, compare: comparison, right, path: this.path };
    const text = JSON.stringify([left, comparison, right]);
    if (this.guards.some((g) => JSON.stringify([g.left, g.compare, g.right]) === text)) return;
    this.guards.push(guard);
  }

  within<T>(module: object, body: () => T): T {
    const before = this.path;
    // A module made inside forward() has no name of its own: its nodes belong to the module that made it.
    this.path = this.paths.get(module) ?? before;
    try {
      return body();
    } finally {
      this.path = before;
    }
  }

  private addState(name: string, tensor: Parameter | Buffer): void {
    const slot = this.slots++;
    const entry: GraphParameter = {
      name,
      shape: [...tensor.dims],
      dtype: tensor.dtype,
      kind: tensor instanceof ParameterClass ? 'parameter' : 'buffer',
      slot,
      init: tensor.init,
    };
    this.parameters.push(entry);
    this.stateSlots.set(tensor, slot);
    this.shapes.addParameter(entry);
  }

  private argument(op: string, arg: CallArgument): GraphArg {
    if (arg === null || arg === undefined) return null;
    if (typeof arg === 'boolean' || typeof arg === 'string') return arg;
    if (typeof arg === 'number') {
      if (!Number.isFinite(arg)) {
        throw this.error(
          `${op}: ${arg} cannot be an argument, because a graph is stored as JSON`,
          'use a large finite number, such as -1e30 to mask',
        );
      }
      return arg;
    }
    if (arg instanceof SymbolicTensor) return { slot: this.slotOf(arg) };
    if (arg instanceof SymInt) return typeof arg.expr === 'number' ? arg.expr : { expr: arg.expr };
    if (Array.isArray(arg)) return (arg as CallArgument[]).map((item) => this.argument(op, item));
    if (typeof arg === 'object') {
      const keys = Object.keys(arg);
      if (keys.length === 1) {
        if ('dtype' in arg && dtypes.includes(arg.dtype)) return { dtype: arg.dtype };
        if ('mode' in arg && modeKinds.includes(arg.mode)) return { mode: arg.mode };
        if ('generator' in arg && arg.generator === true) return { generator: true };
      }
    }
    throw this.error(`${op}: an argument is neither a tensor nor a constant: ${typeof arg}`);
  }

  private outputPorts(result: unknown, single: string): GraphPort[] {
    const port = (name: string, value: unknown): GraphPort => {
      if (!(value instanceof SymbolicTensor)) {
        throw this.error(
          `the output '${name}' is not a tensor`,
          'return a tensor, an array of tensors or an object of tensors from forward()',
        );
      }
      const slot = this.slotOf(value);
      return value instanceof AuxiliaryTensor ? { name, slot, auxiliary: true } : { name, slot };
    };
    const ports = this.namedOutputs(result, single, port);
    if (ports.every(({ auxiliary }) => auxiliary === true)) {
      throw this.error('every output is auxiliary', 'return at least one tensor that is not marked');
    }
    return ports;
  }

  private namedOutputs(
    result: unknown,
    single: string,
    port: (name: string, value: unknown) => GraphPort,
  ): GraphPort[] {
    if (Array.isArray(result)) {
      if (result.length === 0) throw this.error('forward() returns no tensor');
      return result.map((value, i) => port(`${single}_${i}`, value));
    }
    if (typeof result === 'object' && result !== null && !(result instanceof SymbolicTensor)) {
      const entries = Object.entries(result);
      if (entries.length === 0) throw this.error('forward() returns no tensor');
      return entries.map(([name, value]) => port(name, value));
    }
    return [port(single, result)];
  }

  private error(what: string, fix?: string): GraphError {
    const place =
      this.path === '' ? this.root.constructor.name : `${this.root.constructor.name} ${this.path}`;
    return new GraphError({ what, where: place, fix });
  }
}

function namedInputs(inputs: TraceOptions['inputs']): Required<InputSpec>[] {
  const named = inputs.map((input, i): Required<InputSpec> => {
    const name = inputs.length === 1 ? 'image' : `input_${i}`;
    return 'name' in input
      ? { name: input.name, shape: input.shape, dtype: input.dtype ?? 'float32' }
      : { name, shape: input, dtype: 'float32' };
  });
  for (const [i, { name, shape, dtype }] of named.entries()) {
    const valid = Array.isArray(shape) && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
    if (shape !== null && !valid) {
      throw new ArgumentError({ what: `the shape of the input '${name}' is not a list of lengths` });
    }
    if (!dtypes.includes(dtype))
      throw new ArgumentError({ what: `the input '${name}' has no dtype '${dtype}'` });
    if (named.findIndex((other) => other.name === name) !== i) {
      throw new ArgumentError({ what: `two inputs are called '${name}'` });
    }
  }
  return named;
}

/**
 * Traces `module` into a graph. Slots: the inputs, then the state dict in PyTorch's order, then the nodes.
 * Throws GraphError for anything a graph cannot hold; where forward() asks for sizes of intermediate tensors as
 * numbers, the native addon infers them (InstallError if it is missing).
 */
export function trace(module: Module, options: TraceOptions): Graph {
  if (!(module instanceof Module)) {
    throw new ArgumentError({ what: 'trace() takes a module: an object of a class that extends Module' });
  }
  return new Tracer(module).run(namedInputs(options.inputs), options.output ?? 'output');
}
