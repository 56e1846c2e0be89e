/**
 * From the graph of a model to one of inference, for the writers of other programs' formats: modes fixed to eval,
 * our own operators replaced by libtorch's, auxiliary outputs and what only they need left out.
 */
import { GraphError } from '../errors.js';
import type { Graph, GraphArg, GraphNode } from '../graph/format.js';
import { nodeName } from '../graph/reader.js';
import { forEachSlot, mapSlots } from '../graph/size_expr.js';
import { forEachArgumentSlot, mapArgumentSlots } from '../graph/slots.js';

/** Operators that return their first argument in eval mode, with the place of their mode. */
const identities: Readonly<Record<string, number | null>> = {
  'fornax::dropout': 2,
  'fornax::feature_dropout': 2,
  'fornax::stochastic_depth': 3,
  'aten::detach': null,
  'aten::alias': null,
};

/** What a node becomes: another node, or another name for one of its arguments. */
type Lowered = { node: GraphNode } | { alias: number };

function isMode(arg: GraphArg | undefined): boolean {
  return typeof arg === 'object' && arg !== null && !Array.isArray(arg) && 'mode' in arg;
}

function isEval(arg: GraphArg | undefined): boolean {
  return arg === 0 || isMode(arg);
}

function slotOf(arg: GraphArg | undefined): number | null {
  return typeof arg === 'object' && arg !== null && !Array.isArray(arg) && 'slot' in arg ? arg.slot : null;
}

/** Modes are eval, and generators (which only the operators above draw from) are left out. */
function fixed(arg: GraphArg): GraphArg {
  if (isMode(arg)) return false;
  if (typeof arg === 'object' && arg !== null && 'generator' in arg) return null;
  return arg;
}

function lowerNode(node: GraphNode, where: string): Lowered {
  const { op, args } = node;
  if (Object.hasOwn(identities, op)) {
    const mode = identities[op];
    const input = slotOf(args[0]);
    if (input === null || (mode != null && !isEval(args[mode]))) {
      throw new GraphError({
        what: 'a node that always runs in train mode cannot be exported',
        where,
        fix: "give it a mode flag ({ mode: 'dropout' }) instead of a constant",
      });
    }
    return { alias: input };
  }
  if (op === 'fornax::batch_norm') {
    const [x, weight = null, bias = null, mean = null, variance = null, , mode, , eps = 1e-5] = args;
    if (!isEval(mode)) {
      throw new GraphError({ what: 'a batch norm that always runs in train mode cannot be exported', where });
    }
    // Without running statistics it normalises by those of the batch, in every mode.
    const training = mean === null;
    return {
      node: {
        ...node,
        op: 'aten::batch_norm',
        args: [x!, weight, bias, mean, variance, training, 0, eps, false],
      },
    };
  }
  if (op.startsWith('fornax::')) {
    throw new GraphError({ what: `the operator '${op}' has no counterpart outside Fornax`, where });
  }
  return { node: { ...node, args: args.map(fixed) } };
}

/**
 * The graph without nodes on which neither an output nor a guard depends, its slots renumbered: inputs, parameters
 * (all of them, used or not), results in order.
 */
export function withoutDeadNodes(graph: Graph): Graph {
  const live = new Set(graph.outputs.map(({ slot }) => slot));
  for (const { left, right } of graph.guards) {
    for (const expr of [left, right]) forEachSlot(expr, (slot) => live.add(slot));
  }
  const kept: GraphNode[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outs.some((slot) => slot !== null && live.has(slot))) continue;
    kept.push(node);
    for (const arg of node.args) forEachArgumentSlot(arg, (slot) => live.add(slot));
  }
  kept.reverse();

  const numbers = new Map<number, number>();
  const define = (slot: number): number => {
    const number = numbers.size;
    numbers.set(slot, number);
    return number;
  };
  const use = (slot: number): number => numbers.get(slot)!;
  return {
    format_version: graph.format_version,
    inputs: graph.inputs.map((port) => ({ ...port, slot: define(port.slot) })),
    parameters: graph.parameters.map((parameter) => ({ ...parameter, slot: define(parameter.slot) })),
    nodes: kept.map((node) => ({
      ...node,
      args: node.args.map((arg) => mapArgumentSlots(arg, use)),
      outs: node.outs.map((slot) => (slot !== null && live.has(slot) ? define(slot) : null)),
    })),
    outputs: graph.outputs.map((port) => ({ ...port, slot: use(port.slot) })),
    guards: graph.guards.map((guard) => ({
      ...guard,
      left: mapSlots(guard.left, use),
      right: mapSlots(guard.right, use),
    })),
    slots: numbers.size,
  };
}

/**
 * The graph of inference. Parameters stay as they are: all of them, in the order of the state dict.
 *
 * @throws GraphError naming the node, for one that has no form of inference.
 */
export function lower(graph: Graph): Graph {
  const aliases = new Map<number, number>();
  const follow = (slot: number): number => aliases.get(slot) ?? slot;
  const nodes: GraphNode[] = [];
  for (const [i, source] of graph.nodes.entries()) {
    const args = source.args.map((arg) => mapArgumentSlots(arg, follow));
    const lowered = lowerNode({ ...source, args }, nodeName(source, i));
    if ('node' in lowered) nodes.push(lowered.node);
    else if (source.outs[0] != null) aliases.set(source.outs[0], lowered.alias);
  }
  return withoutDeadNodes({
    ...graph,
    nodes,
    outputs: graph.outputs
      .filter(({ auxiliary }) => !auxiliary)
      .map((port) => ({ ...port, slot: follow(port.slot) })),
    guards: graph.guards.map((guard) => ({
      ...guard,
      left: mapSlots(guard.left, follow),
      right: mapSlots(guard.right, follow),
    })),
  });
}
