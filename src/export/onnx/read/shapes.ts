/** Shapes, pieces and types, by the specification of ONNX opset 18. */
import type { GraphArg } from '../../../graph/format.js';
import { elementType } from './file.js';
import type { NodeReader, NodeReaderTable, OnnxNode, Value } from './values.js';

const shape: NodeReader = (n) => {
  const dims = n.shape(0);
  const rank = dims.length;
  const bound = (name: string, fallback: number): number => {
    const value = n.int(name, fallback);
    return Math.max(0, Math.min(rank, value < 0 ? value + rank : value));
  };
  return n.g.integers(dims.slice(bound('start', 0), bound('end', rank)));
};

/** 0 keeps a length, −1 is what remains. */
const reshape: NodeReader = (n) => {
  const keepZero = n.int('allowzero', 0) !== 0;
  const from = n.shape(0);
  const target = n.numbers(1).map((length, i) => {
    if (length !== 0 || keepZero) return length;
    if (i >= from.length) throw n.error('it keeps a dimension that is not there');
    return from[i]!;
  });
  const rest = target.filter((length) => length === -1);
  if (rest.length > 1 || target.some((length) => length < -1))
    throw n.error('a shape with several unknown lengths');
  const { numbers } = n.value(0);
  if (numbers !== null && target.length <= 1 && n.dtype(0) === 'int64') {
    if (target.length === 0 && numbers.length !== 1) throw n.error('of this shape');
    return n.g.integers(numbers, target.length === 0 ? [] : [numbers.length]);
  }
  return n.call('aten::reshape', [n.x(0), target]);
};

const transpose: NodeReader = (n) => {
  const rank = n.rank(0);
  const reversed = Array.from({ length: rank }, (_, i) => rank - 1 - i);
  const perm = n.axes(n.ints('perm', reversed), rank);
  return n.call('aten::permute', [n.x(0), perm]);
};

const squeeze: NodeReader = (n) => {
  const dims = n.shape(0);
  const axes = n.has(1)
    ? n.axes(n.numbers(1), dims.length)
    : dims.flatMap((length, i) => (length === 1 ? [i] : []));
  if (axes.some((axis) => dims[axis] !== 1)) throw n.error('a dimension whose length is not 1');
  const { numbers } = n.value(0);
  if (numbers !== null && n.dtype(0) === 'int64' && dims.length - axes.length <= 1) {
    return n.g.integers(numbers, axes.length === dims.length ? [] : dims.filter((_, i) => !axes.includes(i)));
  }
  return n.call('aten::squeeze.dims', [n.x(0), axes]);
};

const unsqueeze: NodeReader = (n) => {
  const given = n.numbers(1);
  const axes = n.axes(given, n.rank(0) + given.length).sort((a, b) => a - b);
  const { numbers, dims } = n.value(0);
  if (numbers !== null && n.dtype(0) === 'int64' && dims!.length === 0 && axes.length === 1) {
    return n.g.integers(numbers);
  }
  let x = n.x(0);
  for (const axis of axes) x = n.g.slot(n.call('aten::unsqueeze', [x, axis]));
  return tensor(n, x);
};

function tensor(n: OnnxNode, x: { slot: number }): Value {
  return { dtype: n.dtype(0), slot: x.slot, numbers: null, dims: null };
}

/** Broadcasting in both directions. */
const expand: NodeReader = (n) => {
  const from = n.shape(0);
  const asked = n.numbers(1);
  const rank = Math.max(from.length, asked.length);
  const target = Array.from({ length: rank }, (_, i) => {
    const [a, b] = [from[i - rank + from.length] ?? 1, asked[i - rank + asked.length] ?? 1];
    if (a !== b && a !== 1 && b !== 1) throw n.error(`[${from.join(', ')}] to [${asked.join(', ')}]`);
    return a === 1 ? b : a;
  });
  n.bounded(target);
  return n.call('aten::expand', [n.x(0), target]);
};

const tile: NodeReader = (n) => {
  const repeats = [...n.numbers(1)];
  if (repeats.length !== n.rank(0)) throw n.error('repeats for another number of dimensions');
  n.bounded(n.shape(0).map((length, i) => length * repeats[i]!));
  return n.call('aten::repeat', [n.x(0), repeats]);
};

const concat: NodeReader = (n) => {
  const all = Array.from({ length: n.count }, (_, i) => i);
  const dtype = n.sameType(...all);
  const known = all.map((i) => n.value(i));
  if (dtype === 'int64' && known.every(({ numbers, dims }) => numbers !== null && dims!.length === 1)) {
    n.axes([n.int('axis')], 1);
    return n.g.integers(known.flatMap(({ numbers }) => [...numbers!]));
  }
  const [axis] = n.axes([n.int('axis')], n.rank(0));
  return n.call('aten::cat', [all.map((i) => n.x(i)), axis!], dtype);
};

const split: NodeReader = (n) => {
  const [axis] = n.axes([n.int('axis', 0)], n.rank(0));
  const count = n.proto.output.length;
  const length = n.shape(0)[axis!]!;
  if (n.has(1) && n.int('num_outputs', -1) !== -1) throw n.error('both split and num_outputs');
  const each = Math.ceil(length / count);
  const sizes = n.has(1)
    ? [...n.numbers(1)]
    : Array.from({ length: count }, (_, i) => Math.min(each, length - i * each));
  if (sizes.length !== count || sizes.some((s) => s < 0) || sizes.reduce((a, b) => a + b, 0) !== length) {
    throw n.error('pieces that do not make the whole');
  }
  return n.g.callMany(
    'aten::split_with_sizes',
    [n.x(0), sizes, axis!],
    sizes.map(() => n.dtype(0)),
  );
};

/** Starts, ends, axes and steps are inputs; bounds are clamped as the specification says. */
const slice: NodeReader = (n) => {
  const [starts, ends] = [n.numbers(1), n.numbers(2)];
  const dims = n.shape(0);
  const axes = n.axes(n.has(3) ? n.numbers(3) : starts.map((_, i) => i), dims.length);
  const steps = n.has(4) ? n.numbers(4) : starts.map(() => 1);
  if (ends.length !== starts.length || axes.length !== starts.length || steps.length !== starts.length) {
    throw n.error('bounds of different lengths');
  }
  let x = n.x(0);
  for (const [i, axis] of axes.entries()) {
    const [length, step] = [dims[axis]!, steps[i]!];
    if (step === 0) throw n.error('a step of 0');
    const place = (bound: number, low: number, high: number): number =>
      Math.max(low, Math.min(high, bound < 0 ? bound + length : bound));
    if (step > 0) {
      const [start, end] = [place(starts[i]!, 0, length), place(ends[i]!, 0, length)];
      x = n.g.slot(
        n.call('aten::slice.Tensor', [x, axis, start, Math.max(start, end), Math.min(step, length + 1)]),
      );
      continue;
    }
    // Backwards: the same elements turned around, from the end.
    const [start, end] = [place(starts[i]!, 0, length - 1), place(ends[i]!, -1, length - 1)];
    const turned = n.g.slot(n.call('aten::flip', [x, [axis]]));
    const [first, last] = [length - 1 - start, length - 1 - end];
    const args: GraphArg[] = [turned, axis, first, Math.max(first, last), Math.min(-step, length + 1)];
    x = n.g.slot(n.call('aten::slice.Tensor', args));
  }
  return tensor(n, x);
};

const gather: NodeReader = (n) => {
  const [axis] = n.axes([n.int('axis', 0)], n.rank(0));
  const data = n.value(0);
  const indices = n.value(1);
  const length = n.shape(0)[axis!]!;
  if (
    data.numbers !== null &&
    indices.numbers !== null &&
    data.dims!.length === 1 &&
    data.dtype === 'int64'
  ) {
    const picked = indices.numbers.map((i) => data.numbers!.at(i));
    if (picked.some((v) => v === undefined)) throw n.error('an index beyond the end');
    return n.g.integers(picked as number[], indices.dims!);
  }
  if (indices.numbers !== null && indices.dims!.length === 0) {
    return n.call('aten::select.int', [n.x(0), axis!, indices.numbers[0]!]);
  }
  const dims = n.shape(1);
  const flat = n.g.slot(n.call('aten::reshape', [n.x(1), [-1]], indices.dtype));
  // Indices may count from the end.
  const wrapped = n.g.slot(n.call('aten::remainder.Scalar', [flat, length], indices.dtype));
  const picked = n.g.slot(n.call('aten::index_select', [n.x(0), axis!, wrapped]));
  const from = n.shape(0);
  return n.call('aten::reshape', [picked, [...from.slice(0, axis), ...dims, ...from.slice(axis! + 1)]]);
};

const gatherElements: NodeReader = (n) => {
  const [axis] = n.axes([n.int('axis', 0)], n.rank(0));
  const wrapped = n.g.slot(n.call('aten::remainder.Scalar', [n.x(1), n.shape(0)[axis!]!], n.dtype(1)));
  return n.call('aten::gather', [n.x(0), axis!, wrapped]);
};

const gatherND: NodeReader = (n) => {
  if (n.int('batch_dims', 0) !== 0) throw n.error('batch_dims');
  const count = n.shape(1).at(-1)!;
  const coordinates = Array.from({ length: count }, (_, i) =>
    n.g.slot(n.call('aten::select.int', [n.x(1), n.rank(1) - 1, i], 'int64')),
  );
  return n.call('aten::index.Tensor', [n.x(0), coordinates]);
};

const padModes: Record<string, string> = { constant: 'constant', reflect: 'reflect', edge: 'replicate' };

const pad: NodeReader = (n) => {
  const name = n.text('mode', 'constant');
  const mode = Object.hasOwn(padModes, name) ? padModes[name]! : null;
  if (mode === null) throw n.error(`mode ${name}`);
  if (n.has(3)) throw n.error('axes');
  const pads = n.numbers(1);
  const rank = n.rank(0);
  if (pads.length !== 2 * rank) throw n.error('pads for another number of dimensions');
  const value = n.has(2) ? n.numbers(2)[0]! : 0;
  if (!Number.isFinite(value)) throw n.error('padding with something else than a finite number');
  n.bounded(n.shape(0).map((length, i) => length + pads[i]! + pads[i + rank]!));
  // libtorch begins with the last dimension, and takes only the last two for the modes that look at the image.
  const pairs = Array.from({ length: rank }, (_, i) => [pads[rank - 1 - i]!, pads[2 * rank - 1 - i]!]);
  if (mode === 'constant') return n.call('aten::constant_pad_nd', [n.x(0), pairs.flat(), value]);
  if (
    pairs
      .slice(2)
      .flat()
      .some((p) => p !== 0)
  )
    throw n.error('of more than two dimensions');
  return n.call('aten::pad', [n.x(0), pairs.slice(0, 2).flat(), mode]);
};

const cast: NodeReader = (n) => {
  const dtype = elementType(n.int('to'), n.g.file);
  const { numbers, dims } = n.value(0);
  if (dtype === 'int64' && n.dtype(0) === 'int64' && numbers !== null) return n.g.integers(numbers, dims!);
  return n.call('aten::to.dtype', [n.x(0), { dtype }], dtype);
};

const range: NodeReader = (n) => {
  const [start, limit, delta] = [0, 1, 2].map((i) => n.numbers(i)[0]!);
  if (delta === 0) throw n.error('a step of 0');
  n.bounded([Math.max(0, Math.ceil((limit! - start!) / delta!))]);
  return n.call('aten::arange.start_step', [start!, limit!, delta!, { dtype: n.sameType(0, 1, 2) }]);
};

const trilu: NodeReader = (n) => {
  const diagonal = n.has(1) ? n.numbers(1)[0]! : 0;
  return n.call(n.int('upper', 1) !== 0 ? 'aten::triu' : 'aten::tril', [n.x(0), diagonal]);
};

export const shapeReaders: NodeReaderTable = {
  Identity: (n) => n.value(0),
  Shape: shape,
  Reshape: reshape,
  Transpose: transpose,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Expand: expand,
  Tile: tile,
  Concat: concat,
  Split: split,
  Slice: slice,
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  Pad: pad,
  Cast: cast,
  Range: range,
  Trilu: trilu,
};
