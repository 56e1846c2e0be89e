/**
 * Labels and masks that are no class of the model: found before the first step, with the sample, instead of by an
 * operator in the middle of one (which on a GPU ends the process).
 */
import { DataError } from '../errors.js';
import type { Graph, GraphArg, GraphNode } from '../graph/format.js';
import type { NodeInfo } from '../native/contract/graph.js';
import type { AnyLoaderOptions, NativeTensor } from '../native/contract.js';
import { loadAddon } from '../native.js';
import type { Opening, RunFeature } from './run_features.js';

/** A field that a loss reads as indices of classes, by an operator that knows how many there are. */
interface ClassField {
  field: string;
  node: number;
  /** Values that do not count. */
  ignored: readonly number[];
}

/** Operators that leave class indices what they are; the first argument is theirs. */
const SAME_VALUES =
  /^aten::(reshape|view|flatten|squeeze|unsqueeze|to|_to_copy|contiguous|clone|masked_fill)(\.|$)/;

const slotOf = (arg: GraphArg | undefined): number | null =>
  typeof arg === 'object' && arg !== null && 'slot' in arg ? arg.slot : null;

/** Fields that the cross entropy or a one-hot encoding of this loss reads. */
export function classFields({ inputs, nodes }: Graph): ClassField[] {
  const inputOf = new Map(inputs.map(({ name, slot }) => [slot, name]));
  const makerOf = new Map<number, GraphNode>();
  for (const node of nodes) for (const slot of node.outs) if (slot !== null) makerOf.set(slot, node);
  const origin = (arg: GraphArg | undefined): string | null => {
    for (let slot = slotOf(arg); slot !== null;) {
      const input = inputOf.get(slot);
      if (input !== undefined) return input;
      const maker = makerOf.get(slot);
      if (!maker || !SAME_VALUES.test(maker.op)) return null;
      slot = slotOf(maker.args[0]);
    }
    return null;
  };
  const compared = (field: string): number[] =>
    nodes.flatMap(({ op, args: [tensor, value] }) =>
      op === 'aten::eq.Scalar' && typeof value === 'number' && origin(tensor) === field ? [value] : [],
    );
  return nodes.flatMap(({ op, args }, node) => {
    const isEntropy = op === 'aten::cross_entropy_loss';
    if (!isEntropy && op !== 'aten::one_hot') return [];
    const field = origin(isEntropy ? args[1] : args[0]);
    if (field === null) return [];
    const ignored = isEntropy ? [typeof args[4] === 'number' ? args[4] : -100] : compared(field);
    return [{ field, node, ignored }];
  });
}

interface Spec {
  shape: number[];
  dtype: NativeTensor['dtype'];
}

/** Of the model's outputs for a batch, as floating-point numbers. */
function outputSpecs(graph: Graph, infos: readonly NodeInfo[]): Map<string, Spec> {
  const shapes = new Map<number, number[]>();
  graph.nodes.forEach(({ outs }, i) => {
    const slots = outs.filter((slot) => slot !== null);
    slots.forEach((slot, k) => shapes.set(slot, infos[i]!.outputs[k]!));
  });
  return new Map(
    graph.outputs.flatMap(({ name, slot }) => {
      const shape = shapes.get(slot);
      return shape ? [[name, { shape, dtype: 'float32' }] as const] : [];
    }),
  );
}

/** How many classes each of these operators tells apart; null where shapes cannot be known beforehand. */
function classCounts(
  { options: { model, data, loss } }: Opening,
  fields: Record<string, NativeTensor>,
  found: readonly ClassField[],
): number[] | null {
  const rows = Math.min(2, data.trainSamples);
  const ofField = (name: string): Spec | undefined => {
    const field = fields[name];
    return field && { shape: [rows, ...field.shape.slice(1)], dtype: field.dtype };
  };
  const { inputs } = model.graph;
  const image: Spec | undefined = data.preprocessing
    ? { shape: [rows, data.preprocessing.channels, ...data.preprocessing.size], dtype: 'float32' }
    : ofField('image');
  const given = inputs.map(({ name }) => (data.preprocessing ? undefined : ofField(name)) ?? image);
  if (given.some((spec) => spec === undefined)) return null;
  try {
    const outputs = outputSpecs(model.graph, model.native.inferShapes(given as Spec[]));
    const read = loss.inputs.map(({ name }) => outputs.get(name) ?? ofField(name));
    if (read.some((spec) => spec === undefined)) return null;
    const native = new (loadAddon().Graph)(loss, { trusted: true });
    try {
      const infos = native.inferShapes(read as Spec[]);
      return found.map(({ node }) => {
        const { op, inputs: shapes, outputs: results } = infos[node]!;
        const logits = shapes[0]!;
        return op === 'aten::one_hot' ? results[0]!.at(-1)! : logits[logits.length > 1 ? 1 : 0]!;
      });
    } finally {
      native.dispose();
    }
  } catch {
    // Shapes that do not fit are an error of the step, which says where.
    return null;
  }
}

/** Values that are looked at at once. */
const CHUNK = 1 << 24;

/** The first entry of a field with a value that is neither a class nor ignored; null: there is none. */
export function firstOutside(
  field: NativeTensor,
  classes: number,
  ignored: readonly number[],
): { sample: number; value: number } | null {
  const { Tensor } = loadAddon();
  const call = (op: string, ...args: Parameters<typeof Tensor.call>[1]): NativeTensor =>
    Tensor.call(op, args)[0]!;
  const samples = field.shape[0]!;
  const rows = Math.max(
    1,
    Math.floor(
      CHUNK /
        Math.max(
          1,
          field.shape.slice(1).reduce((a, b) => a * b, 1),
        ),
    ),
  );
  for (let first = 0; first < samples; first += rows) {
    const kept: NativeTensor[] = [];
    const keep = (tensor: NativeTensor): NativeTensor => {
      kept.push(tensor);
      return tensor;
    };
    try {
      const part = keep(call('aten::slice.Tensor', field, 0, first, Math.min(samples, first + rows)));
      const below = keep(call('aten::lt.Scalar', part, 0));
      let bad = keep(call('aten::logical_or', below, keep(call('aten::ge.Scalar', part, classes))));
      for (const value of ignored) {
        bad = keep(call('aten::logical_and', bad, keep(call('aten::ne.Scalar', part, value))));
      }
      const places = keep(call('aten::nonzero', bad));
      if (places.shape[0] === 0) continue;
      const values = keep(call('aten::masked_select', part, bad));
      const sample = first + Number(places.toTypedArray()[0]);
      return { sample, value: Number(values.toTypedArray()[0]) };
    } finally {
      for (const tensor of kept) tensor.dispose();
    }
  }
  return null;
}

const inMemory = (loader: AnyLoaderOptions): Record<string, NativeTensor> | null =>
  'fields' in loader ? loader.fields : null;

/** @throws DataError naming the sample, and the classes that the model has. */
export function checkLabels(opening: Opening): void {
  const { data, loss } = opening.options;
  const request = { batchSize: opening.train.batchSize, seed: 0 };
  const fields = inMemory(data.loaderOptions('train', request));
  if (!fields) return; // Labels of a pack are the places of the classes' names.
  const found = classFields(loss).filter(({ field }) => fields[field]?.dtype === 'int64');
  if (found.length === 0) return;
  const counts = classCounts(opening, fields, found);
  if (!counts) return;
  const held = data.evalSamples === null ? null : inMemory(data.loaderOptions('eval', request));
  for (const [i, { field, ignored }] of found.entries()) {
    for (const [split, values] of [
      ['train', fields[field]],
      ['val', held?.[field]],
    ] as const) {
      const bad = values && firstOutside(values, counts[i]!, ignored);
      if (!bad) continue;
      throw new DataError({
        what: `'${field}' is ${bad.value}, but the model tells the classes 0…${counts[i]! - 1} apart`,
        where: `${split}.${field}, sample ${bad.sample}`,
        fix:
          field === 'label'
            ? 'give the model as many outputs as there are classes; labels count from 0'
            : `give the model as many outputs as there are classes, or the loss ignoreIndex: ${bad.value} if these are not to count`,
      });
    }
  }
}

export const labelsFeature: RunFeature = { prepare: checkLabels };
