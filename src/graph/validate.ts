/**
 * Checks a graph that comes from a file and is not to be trusted: form, sizes, names and the flow of slots. What
 * needs libtorch's schemas (whether operators exist, are allowed, and take these arguments) is checked natively
 * when the graph is loaded.
 */
import { GraphError } from '../errors.js';
import { checkInit } from './check_init.js';
import { Reader, nodeName } from './reader.js';
import type { Graph, GraphGuard, GraphNode, GraphParameter, GraphPort, SizeExpr } from './format.js';
import { forEachSlot } from './size_expr.js';
import { forEachArgumentSlot } from './slots.js';
import { upgraded, type RawGraph } from './migrations.js';

/** Far above any real model, far below what would exhaust memory. */
const limits = {
  slots: 1 << 20,
  ports: 1024,
  parameters: 1 << 17,
  nodes: 1 << 18,
  guards: 1 << 16,
  outs: 4096,
  args: 64,
  dims: 16,
  elements: 2 ** 40,
} as const;

const comparisons = ['==', '!=', '<', '<=', '>', '>='] as const;
const operatorName = /^[A-Za-z_]\w{0,63}::[A-Za-z_]\w{0,127}(\.\w{1,127})?$/;

function readPort(reader: Reader, value: unknown, where: string): GraphPort {
  const { name, slot, rank, auxiliary } = reader.object(
    value,
    where,
    ['name', 'slot'],
    ['rank', 'auxiliary'],
  );
  return {
    name: reader.name(name, `${where}, name`),
    slot: reader.integer(slot, `${where}, slot`, 0),
    ...(rank === undefined ? {} : { rank: reader.integer(rank, `${where}, rank`, 0, limits.dims) }),
    ...(auxiliary === undefined ? {} : { auxiliary: reader.boolean(auxiliary, `${where}, auxiliary`) }),
  };
}

function readParameter(reader: Reader, value: unknown, index: number): GraphParameter {
  const fallback = `parameter ${index}`;
  const raw = reader.object(value, fallback, ['name', 'shape', 'dtype', 'kind', 'slot', 'init']);
  const name = reader.name(raw['name'], `${fallback}, name`);
  const where = `parameter ${name}`;
  const shape = reader
    .array(raw['shape'], `${where}, shape`, limits.dims)
    .map((n) => reader.integer(n, `${where}, shape`, 0));
  if (shape.reduce((product, n) => product * n, 1) > limits.elements) {
    throw reader.error(`the shape [${shape.join(', ')}] is too large`, where);
  }
  const dtype = reader.dtype(raw['dtype'], where);
  const kind = reader.oneOf(raw['kind'], ['parameter', 'buffer'] as const, `${where}, kind`);
  if (kind === 'parameter' && !/float/.test(dtype)) {
    throw reader.error(`a parameter must be of a floating type, not ${dtype}`, where);
  }
  const slot = reader.integer(raw['slot'], `${where}, slot`, 0);
  return { name, shape, dtype, kind, slot, init: checkInit(reader, raw['init'], shape, where) };
}

function readNode(reader: Reader, value: unknown, index: number): GraphNode {
  const fallback = `node ${index}`;
  const raw = reader.object(value, fallback, ['op', 'path', 'args', 'outs']);
  const op = reader.text(raw['op'], `${fallback}, op`);
  if (!operatorName.test(op)) {
    throw reader.error(`'${op.slice(0, 80)}' is not the name of an operator (aten::add.Tensor)`, fallback);
  }
  const path = reader.path(raw['path'], `${fallback}, path`);
  const where = nodeName({ op, path }, index);
  const args = reader
    .array(raw['args'], `${where}, args`, limits.args)
    .map((arg, i) => reader.argument(arg, `${where}, argument ${i}`));
  const outs = reader
    .array(raw['outs'], `${where}, outs`, limits.outs)
    .map((slot) => (slot === null ? null : reader.integer(slot, `${where}, outs`, 0)));
  if (outs.length === 0) throw reader.error('the node has no output slot', where);
  return { op, path, args, outs };
}

function readGuard(reader: Reader, value: unknown, index: number): GraphGuard {
  const where = `guard ${index}`;
  const raw = reader.object(value, where, ['left', 'compare', 'right', 'path']);
  return {
    left: reader.expr(raw['left'], `${where}, left`),
    compare: reader.oneOf(raw['compare'], comparisons, `${where}, compare`),
    right: reader.expr(raw['right'], `${where}, right`),
    path: reader.path(raw['path'], `${where}, path`),
  };
}

function checkUnique(reader: Reader, names: readonly string[], what: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) throw reader.error(`two ${what}s are called '${name}'`, `${what} ${name}`);
    seen.add(name);
  }
}

/** Every slot is written exactly once, and before it is used. */
function checkFlow(reader: Reader, graph: Graph): void {
  /** Who writes each slot: −1 nobody, 0 an input or parameter, n + 1 node n. */
  const writer = new Int32Array(graph.slots).fill(-1);
  const write = (slot: number, by: number, where: string): void => {
    if (slot >= graph.slots) {
      throw reader.error(`slot ${slot} does not exist: the graph has ${graph.slots}`, where);
    }
    if (writer[slot] !== -1) throw reader.error(`slot ${slot} is written twice`, where);
    writer[slot] = by;
  };
  for (const { name, slot } of graph.inputs) write(slot, 0, `input ${name}`);
  for (const { name, slot } of graph.parameters) write(slot, 0, `parameter ${name}`);
  for (const [i, node] of graph.nodes.entries()) {
    for (const slot of node.outs) if (slot !== null) write(slot, i + 1, nodeName(node, i));
  }
  const unwritten = writer.indexOf(-1);
  const use = (slot: number, before: number, where: string): void => {
    const by = slot < graph.slots ? writer[slot]! : -1;
    if (by === -1) {
      throw reader.error(`slot ${slot} is dangling: no input, parameter or node writes it`, where);
    }
    if (by >= before) {
      throw reader.error(
        `slot ${slot} is used before it is written (by ${nodeName(graph.nodes[by - 1]!, by - 1)})`,
        where,
        'nodes must stand in the order of execution; there are no cycles',
      );
    }
  };
  for (const [i, node] of graph.nodes.entries()) {
    forEachArgumentSlot(node.args, (slot) => use(slot, i + 1, nodeName(node, i)));
  }
  const end = graph.nodes.length + 1;
  for (const { name, slot } of graph.outputs) use(slot, end, `output ${name}`);
  for (const [i, { left, right, path }] of graph.guards.entries()) {
    const check = (expr: SizeExpr): void =>
      forEachSlot(expr, (slot) => use(slot, end, `guard ${i} of ${path || 'the root module'}`));
    check(left);
    check(right);
  }
  if (unwritten !== -1) throw reader.error(`slot ${unwritten} is never written`, 'slots');
}

export interface ValidateOptions {
  /** Where the graph comes from, for errors: the path of the file. */
  source?: string;
}

/**
 * The graph in `value` (parsed JSON), upgraded from an older format version if need be. The result is built
 * afresh and holds nothing that was not checked.
 * @throws GraphError that names the node, parameter or guard
 */
export function validateGraph(value: unknown, options: ValidateOptions = {}): Graph {
  const reader = new Reader(options.source);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw reader.error('the graph is not an object', 'the graph');
  }
  let current: RawGraph;
  try {
    current = upgraded(value as RawGraph);
  } catch (error) {
    if (error instanceof GraphError && options.source !== undefined) {
      throw new GraphError({ what: error.what, where: options.source, fix: error.fix });
    }
    throw error;
  }
  const raw = reader.object(current, 'the graph', [
    'format_version',
    'slots',
    'inputs',
    'outputs',
    'parameters',
    'nodes',
    'guards',
  ]);
  const graph: Graph = {
    format_version: raw['format_version'] as number,
    slots: reader.integer(raw['slots'], 'slots', 0, limits.slots),
    inputs: reader
      .array(raw['inputs'], 'inputs', limits.ports)
      .map((port, i) => readPort(reader, port, `input ${i}`)),
    outputs: reader
      .array(raw['outputs'], 'outputs', limits.ports)
      .map((port, i) => readPort(reader, port, `output ${i}`)),
    parameters: reader
      .array(raw['parameters'], 'parameters', limits.parameters)
      .map((parameter, i) => readParameter(reader, parameter, i)),
    nodes: reader.array(raw['nodes'], 'nodes', limits.nodes).map((node, i) => readNode(reader, node, i)),
    guards: reader
      .array(raw['guards'], 'guards', limits.guards)
      .map((guard, i) => readGuard(reader, guard, i)),
  };
  if (graph.outputs.length === 0) throw reader.error('the graph has no output', 'outputs');
  if (graph.outputs.every((port) => port.auxiliary === true)) {
    throw reader.error('every output of the graph is auxiliary', 'outputs');
  }
  checkUnique(
    reader,
    graph.inputs.map((p) => p.name),
    'input',
  );
  checkUnique(
    reader,
    graph.outputs.map((p) => p.name),
    'output',
  );
  checkUnique(
    reader,
    graph.parameters.map((p) => p.name),
    'parameter',
  );
  checkFlow(reader, graph);
  return graph;
}
