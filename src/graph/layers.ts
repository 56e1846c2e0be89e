/**
 * The layers of a model in the order of depth, and its heads: read off the graph, so that models of the zoo, of files
 * and of scripts have them alike. Training takes rates by depth from them (layer-wise learning-rate decay).
 */
import type { Graph, GraphArg, GraphNode } from './format.js';

export interface Layers {
  /** Layer of every parameter by its name: 0 is the one next to the input. Buffers have none. */
  of: ReadonlyMap<string, number>;
  count: number;
  /** Parameters of the heads: the last operators with weights before each output, those of auxiliary outputs too. */
  head: ReadonlySet<string>;
}

/** Operators whose result is part of one of their arguments. */
const PARTS = /^aten::(slice|select|narrow|chunk|split|split_with_sizes|unbind)\b/;
/** Operators that bring branches together. A gate (squeeze and excitation) multiplies: it is part of its branch. */
const JOINS = /^aten::(add|add_|cat|concat|stack)\b/;

function slotsOf(argument: GraphArg): number[] {
  if (Array.isArray(argument)) return argument.flatMap(slotsOf);
  return typeof argument === 'object' && argument !== null && 'slot' in argument ? [argument.slot] : [];
}

const inputsOf = (node: GraphNode): number[] => node.args.flatMap(slotsOf);

function isUnder(name: string, path: string): boolean {
  return path === '' || name === path || name.startsWith(path + '.');
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('.')));
}

/** What each slot is made of. */
interface Flow {
  /** Depends on an input of the model. */
  active: boolean[];
  /** Parameters (positions) that a slot without activations is made of: a weight, or a view of one. */
  weights: Map<number, readonly number[]>;
  /** Of an activation: the slot that it is a part of, or itself. */
  origin: number[];
  /** Position of the node that first uses each parameter. */
  firstUse: number[];
  /** Position of the node that writes a slot. */
  writer: Map<number, number>;
}

function flowOf(graph: Graph): Flow {
  const active = Array.from({ length: graph.slots }, () => false);
  const origin = active.map((_, slot) => slot);
  for (const { slot } of graph.inputs) active[slot] = true;
  const weights = new Map<number, readonly number[]>();
  graph.parameters.forEach(({ kind, slot }, i) => {
    if (kind === 'parameter') weights.set(slot, [i]);
  });
  const firstUse = graph.parameters.map(() => graph.nodes.length);
  const writer = new Map<number, number>();
  graph.nodes.forEach((node, at) => {
    const inputs = inputsOf(node);
    const isActive = inputs.some((slot) => active[slot]);
    const used = inputs.flatMap((slot) => weights.get(slot) ?? []);
    // A weight on its way through views is not yet used.
    for (const i of used) if (isActive && firstUse[i] === graph.nodes.length) firstUse[i] = at;
    for (const out of node.outs) {
      if (out === null) continue;
      writer.set(out, at);
      active[out] = isActive;
      if (!isActive) weights.set(out, used);
      if (isActive && PARTS.test(node.op)) origin[out] = origin[inputs[0]!]!;
    }
  });
  return { active, weights, origin, firstUse, writer };
}

/** The parameters (positions) with which a node treats its activations. */
function weightsOf(node: GraphNode, { weights }: Flow): number[] {
  return inputsOf(node).flatMap((slot) => weights.get(slot) ?? []);
}

function headOf(graph: Graph, flow: Flow): Set<string> {
  const head = new Set<string>();
  const seen = new Set<number>();
  const open = graph.outputs.map(({ slot }) => slot);
  while (open.length > 0) {
    const at = flow.writer.get(open.pop()!);
    if (at === undefined || seen.has(at)) continue;
    seen.add(at);
    const node = graph.nodes[at]!;
    const used = weightsOf(node, flow).map((i) => graph.parameters[i]!);
    // A scale or an offset behind the head does not make a head.
    if (used.some(({ shape }) => shape.length > 1)) for (const { name } of used) head.add(name);
    else open.push(...inputsOf(node).filter((slot) => flow.active[slot]));
  }
  return head;
}

/**
 * Module paths of the blocks: the innermost modules that bring branches together themselves (residual blocks,
 * inception blocks, layers of transformers), and beside these their siblings with weights (a block whose stride
 * forbids the shortcut).
 */
function blocksOf(graph: Graph, flow: Flow): Set<string> {
  const joins = new Set<string>();
  for (const node of graph.nodes) {
    if (node.path === '' || !JOINS.test(node.op)) continue;
    const branches = inputsOf(node).filter((slot) => flow.active[slot]);
    if (new Set(branches.map((slot) => flow.origin[slot])).size > 1) joins.add(node.path);
  }
  const strictlyUnder = (path: string, of: string): boolean => path !== of && isUnder(path, of);
  const blocks = new Set(
    [...joins].filter((path) => ![...joins].some((other) => strictlyUnder(other, path))),
  );
  const containers = new Set([...blocks].map(parentOf).filter((path) => path !== ''));
  const inner = [...blocks];
  for (const { name, kind, shape } of graph.parameters) {
    if (kind !== 'parameter' || shape.length < 2) continue;
    for (const container of containers) {
      if (!name.startsWith(container + '.')) continue;
      const sibling = `${container}.${name.slice(container.length + 1).split('.')[0]!}`;
      if (sibling !== name && !inner.some((block) => isUnder(block, sibling))) blocks.add(sibling);
    }
  }
  return blocks;
}

/**
 * Finds the layers of a model.
 *
 * Layers follow each other as the graph runs. A block is a layer (`layer1.0` of a ResNet, `encoder_layer_3` of a
 * ViT); what comes before the first one is layer 0 (stem, embeddings); what stands between two blocks belongs to the
 * one that follows; what comes after the last one (a last norm) belongs to it; the head is the last layer. In a
 * model without blocks (AlexNet, VGG) every operator with a weight of two dimensions or more begins a layer. For ViT,
 * ResNet and Swin these are timm's layers (`group_matcher`); there the last norm of a ConvNeXt is part of the head.
 */
export function layersOf(graph: Graph): Layers {
  const flow = flowOf(graph);
  const head = headOf(graph, flow);
  const blocks = blocksOf(graph, flow);
  const blockOf = (name: string): string | undefined => {
    for (let path = parentOf(name); path !== ''; path = parentOf(path)) if (blocks.has(path)) return path;
    return undefined;
  };
  const order = graph.parameters
    .map(({ name, kind, shape }, i) => ({ name, kind, shape, use: flow.firstUse[i]! }))
    .filter(({ kind, name }) => kind === 'parameter' && !head.has(name))
    .sort((a, b) => a.use - b.use);
  const of = new Map<string, number>();
  const layerOfBlock = new Map<string, number>();
  // Of what stands before, or between, blocks: its layer is known once the next block is met.
  let waiting: string[] = [];
  let last = -1;
  for (const { name, shape, use } of order) {
    const block = blocks.size > 0 ? blockOf(name) : shape.length > 1 ? `${use}` : undefined;
    if (block === undefined) {
      if (blocks.size === 0) of.set(name, Math.max(0, last));
      else waiting.push(name);
      continue;
    }
    let layer = layerOfBlock.get(block);
    if (layer === undefined) {
      if (last < 0 && waiting.length > 0) last = 0;
      layer = ++last;
      layerOfBlock.set(block, layer);
    }
    for (const earlier of waiting) of.set(earlier, layerOfBlock.size === 1 ? 0 : layer);
    waiting = [];
    of.set(name, layer);
  }
  for (const name of waiting) of.set(name, Math.max(0, last));
  const count = head.size > 0 ? Math.max(last, order.length > 0 ? 0 : -1) + 2 : last + 1;
  for (const name of head) of.set(name, count - 1);
  return { of, count, head };
}
