/** What a model consists of: a table of its modules with output shapes, parameters and multiply-accumulates. */
import { ArgumentError } from '../errors.js';
import type { NodeInfo } from '../native/contract.js';
import { DTYPE_BYTES } from './dtypes.js';
import type { Graph } from './format.js';
import { macs } from './macs.js';

export interface SummaryRow {
  /** Module path; '' for the model itself. */
  path: string;
  /** Length of the path: 0 for the model itself. */
  depth: number;
  /** Operators of the module's own forward, in order, without namespace: `conv2d`; `add, relu`. */
  ops: string[];
  /** Of the last node of the module or below it; null if it makes none. */
  outputShape: number[] | null;
  /** Trained elements of the module itself, and with all below it. */
  parameters: number;
  totalParameters: number;
  /** Multiply-accumulates of the module's own nodes, and with all below it. */
  macs: number;
  totalMacs: number;
}

export interface Summary {
  /** Modules in the order in which they first run, parents before children, then those that do not run. */
  rows: SummaryRow[];
  inputs: { name: string; shape: number[] }[];
  outputs: { name: string; shape: number[]; auxiliary?: true }[];
  /** Elements that are trained; elements of buffers; multiply-accumulates of one forward. */
  parameters: number;
  buffers: number;
  macs: number;
  /** Bytes of parameters and buffers; of all results of nodes together (what training may have to keep). */
  stateBytes: number;
  activationBytes: number;
}

const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function newRow(path: string): SummaryRow {
  return {
    path,
    depth: path === '' ? 0 : path.split('.').length,
    ops: [],
    outputShape: null,
    parameters: 0,
    totalParameters: 0,
    macs: 0,
    totalMacs: 0,
  };
}

/** '', `layer1`, `layer1.0` for `layer1.0`. */
function lineage(path: string): string[] {
  const names = path === '' ? [] : path.split('.');
  return ['', ...names.map((_, i) => names.slice(0, i + 1).join('.'))];
}

/** Rows by path, made on demand, each parent before its children and siblings in the order of their first use. */
class Rows {
  private readonly rows = new Map<string, SummaryRow>();
  private readonly children = new Map<string, string[]>();

  /** The module itself and all above it, outermost first. */
  of(path: string): SummaryRow[] {
    const paths = lineage(path);
    return paths.map((p, i) => {
      let row = this.rows.get(p);
      if (row === undefined) {
        row = newRow(p);
        this.rows.set(p, row);
        this.children.set(p, []);
        if (i > 0) this.children.get(paths[i - 1]!)!.push(p);
      }
      return row;
    });
  }

  *inOrder(path = ''): Generator<SummaryRow> {
    const row = this.rows.get(path);
    if (row === undefined) return;
    yield row;
    for (const child of this.children.get(path)!) yield* this.inOrder(child);
  }
}

/**
 * Sums up a graph. `infos` is what `NativeGraph.inferShapes(inputs)` returned: one entry per node.
 * @throws ArgumentError if it belongs to another graph
 */
export function summarize(graph: Graph, infos: readonly NodeInfo[], inputs: readonly number[][]): Summary {
  if (infos.length !== graph.nodes.length || inputs.length !== graph.inputs.length) {
    throw new ArgumentError({
      what:
        `the graph has ${graph.nodes.length} nodes and ${graph.inputs.length} inputs, ` +
        `but shapes were given for ${infos.length} and ${inputs.length}`,
    });
  }
  const rows = new Rows();
  const shapes = new Map<number, readonly number[]>();
  for (const [i, { slot }] of graph.inputs.entries()) shapes.set(slot, inputs[i]!);
  for (const { slot, shape } of graph.parameters) shapes.set(slot, shape);
  const summary: Summary = {
    rows: [],
    inputs: graph.inputs.map(({ name }, i) => ({ name, shape: [...inputs[i]!] })),
    outputs: [],
    parameters: 0,
    buffers: 0,
    macs: 0,
    stateBytes: 0,
    activationBytes: 0,
  };
  for (const [i, node] of graph.nodes.entries()) {
    const info = infos[i]!;
    const cost = macs(info);
    const chain = rows.of(node.path);
    for (const row of chain) {
      row.totalMacs += cost;
      row.outputShape = info.outputs.at(-1) ?? row.outputShape;
    }
    const own = chain.at(-1)!;
    own.macs += cost;
    own.ops.push(node.op.replace(/^\w+::/, '').replace(/\..*$/, ''));
    summary.macs += cost;
    const used = node.outs.filter((slot) => slot !== null);
    for (const [j, slot] of used.entries()) {
      shapes.set(slot, info.outputs[j]!);
      summary.activationBytes += elements(info.outputs[j]!) * DTYPE_BYTES[info.dtypes[j]!];
    }
  }
  for (const { name, shape, dtype, kind } of graph.parameters) {
    const count = elements(shape);
    summary.stateBytes += count * DTYPE_BYTES[dtype];
    const chain = rows.of(name.split('.').slice(0, -1).join('.'));
    if (kind === 'buffer') {
      summary.buffers += count;
      continue;
    }
    summary.parameters += count;
    for (const row of chain) row.totalParameters += count;
    chain.at(-1)!.parameters += count;
  }
  summary.rows = [...rows.inOrder()];
  summary.outputs = graph.outputs.map(({ name, slot, auxiliary }) => ({
    name,
    shape: [...shapes.get(slot)!],
    ...(auxiliary ? { auxiliary } : {}),
  }));
  return summary;
}
