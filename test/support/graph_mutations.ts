/** Damage to graphs for fuzzing: structural changes anywhere, and changes that leave the form intact. */
import type { Graph } from '#fornax/graph/format.js';

/** An integer from 0 to n − 1. */
type Random = (n: number) => number;
type Container = Record<string, unknown> | unknown[];

/** Values that readers stumble over. */
const nasty: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1,
  2,
  7,
  2 ** 31,
  -(2 ** 31),
  2 ** 40,
  2 ** 53,
  1e308,
  -1e-308,
  0.5,
  Infinity,
  NaN,
  '',
  'relu',
  'float32',
  'dropout',
  'mean',
  '\u0000\u001b[2J',
  'é'.repeat(2000),
  '__proto__',
  [],
  [[]],
  [0, 0],
  [null],
  [1, -1, 2 ** 62],
  {},
  { slot: 0 },
  { slot: 3 },
  { slot: 2 ** 31 },
  { slot: -1 },
  { mode: 'dropout' },
  { mode: 'toString' },
  { expr: ['size', 0, 0] },
  { expr: ['size', 0, -9] },
  { expr: ['//', 1, 0] },
  { expr: ['%', ['size', 0, 1], ['-', 3, 3]] },
  { expr: ['*', 2 ** 52, ['*', 2 ** 52, ['size', 0, 3]]] },
  { dtype: 'int64' },
  { dtype: 'float8' },
  { generator: true },
  { slot: 0, mode: 'dropout' },
];

const operators: readonly string[] = [
  'aten::add.Tensor',
  'aten::cat',
  'aten::conv2d',
  'aten::conv_transpose2d',
  'aten::relu',
  'aten::reshape',
  'aten::permute',
  'aten::expand',
  'aten::repeat',
  'aten::index_select',
  'aten::embedding',
  'aten::one_hot',
  'aten::topk',
  'aten::max.dim',
  'aten::split_with_sizes',
  'aten::pad',
  'aten::arange.start_step',
  'aten::pixel_shuffle',
  'aten::upsample_bilinear2d',
  'aten::scaled_dot_product_attention',
  'aten::einsum',
  'aten::meshgrid',
  'fornax::batch_norm',
  'fornax::dropout',
  'fornax::stochastic_depth',
  // Not allowed in files, or not operators at all.
  'aten::add_.Tensor',
  'aten::set_.source_Tensor',
  'aten::as_strided',
  'aten::resize_',
  'aten::from_file',
  'aten::item',
  'aten::relu.out',
  'prim::Print',
  'aten::no_such_operator',
  'relu',
  '::',
];

function isContainer(value: unknown): value is Container {
  return typeof value === 'object' && value !== null;
}

/** Every object and list of `root`, itself included. */
function containers(root: Container): Container[] {
  const found: Container[] = [root];
  for (const at of found) for (const value of Object.values(at)) if (isContainer(value)) found.push(value);
  return found;
}

function nested(depth: number): unknown {
  let value: unknown = 0;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}

function nestedExpr(depth: number): unknown {
  let value: unknown = ['size', 0, 0];
  for (let i = 0; i < depth; i++) value = ['+', value, 1];
  return { expr: value };
}

/** Changes one randomly chosen entry in place. */
function damageAnywhere(root: Container, random: Random): void {
  const all = containers(root).filter((container) => Object.keys(container).length > 0);
  const at = all[random(all.length)]! as Record<string, unknown>;
  const keys = Object.keys(at);
  const key = keys[random(keys.length)]!;
  switch (random(6)) {
    case 0:
      if (Array.isArray(at)) at.splice(Number(key), 1);
      else Reflect.deleteProperty(at, key);
      break;
    case 1:
      if (Array.isArray(at)) at.splice(Number(key), 0, structuredClone(at[Number(key)]));
      else at[`${key}_`] = at[key];
      break;
    case 2: {
      const other = keys[random(keys.length)]!;
      [at[key], at[other]] = [at[other], at[key]];
      break;
    }
    case 3: {
      const donor = all[random(all.length)]!;
      const values = Object.values(donor);
      at[key] = structuredClone(values[random(values.length)]);
      break;
    }
    default:
      at[key] = structuredClone(nasty[random(nasty.length)]);
  }
}

/** Puts something nested far deeper than a call stack reaches into one entry. */
function nestDeeply(root: Container, random: Random): void {
  const all = containers(root).filter((container) => Object.keys(container).length > 0);
  const at = all[random(all.length)]! as Record<string, unknown>;
  const keys = Object.keys(at);
  at[keys[random(keys.length)]!] = random(2) ? nested(100_000) : nestedExpr(100_000);
}

/** Numbers a little or a lot away from `value`. */
function otherNumber(value: number, random: Random): number {
  const far = [0, 1, -1, 2, 3, 8, 64, 1 << 20, 2 ** 31, 2 ** 33, 2 ** 52, -(2 ** 40), 0.5];
  return random(2) ? value + random(5) - 2 : far[random(far.length)]!;
}

/** Changes one number anywhere below `root`. */
function damageNumber(root: Container, random: Random): void {
  const places = containers(root).flatMap((container) =>
    Object.entries(container).flatMap(([key, value]) =>
      typeof value === 'number' ? [{ at: container as Record<string, unknown>, key, value }] : [],
    ),
  );
  if (places.length === 0) return;
  const { at, key, value } = places[random(places.length)]!;
  at[key] = otherNumber(value, random);
}

/** A change after which the graph still has the form of one, so that it gets past the first checks. */
function damageMeaning(graph: Graph, random: Random): void {
  const node = graph.nodes[random(graph.nodes.length)];
  const parameter = graph.parameters[random(graph.parameters.length)];
  switch (random(7)) {
    case 0:
      if (node) node.op = operators[random(operators.length)]!;
      break;
    case 1:
      if (node) damageNumber(node.args, random);
      break;
    case 2: {
      // One argument more or less; those that are missing take the schema's defaults.
      if (!node) break;
      if (random(2)) node.args.pop();
      else node.args.push(structuredClone(nasty[random(nasty.length)]) as (typeof node.args)[number]);
      break;
    }
    case 3:
      if (node && node.args.length > 0) {
        const value = structuredClone(nasty[random(nasty.length)]);
        node.args[random(node.args.length)] = value as (typeof node.args)[number];
      }
      break;
    case 4:
      if (parameter) damageNumber(random(2) ? parameter.shape : parameter.init, random);
      break;
    case 5:
      if (graph.guards.length > 0) damageNumber(graph.guards, random);
      else damageNumber(graph.nodes, random);
      break;
    default:
      if (node && random(2)) node.outs.push(null);
      else [graph.nodes[0], graph.nodes[1]] = [graph.nodes[1]!, graph.nodes[0]!];
  }
}

/** A damaged copy of `graph`: one to three changes. */
export function mutated(graph: Graph, random: Random): unknown {
  const copy = structuredClone(graph);
  const changes = 1 + random(3);
  const meaning = random(2) === 0;
  for (let i = 0; i < changes; i++) {
    if (meaning) damageMeaning(copy, random);
    else damageAnywhere(copy as unknown as Container, random);
  }
  if (random(40) === 0) nestDeeply(copy as unknown as Container, random);
  return copy;
}
