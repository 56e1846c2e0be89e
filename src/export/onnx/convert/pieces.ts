/** Parts of tensors: slices, pieces, gathered elements, padding, joining. */
import type { SizeExpr } from '../../../graph/format.js';
import type { Conversion, Converter, ConverterTable } from '../conversion.js';
import { slotOf } from '../arguments.js';
import { INT64_MAX, INT64_MIN, minus, plus, times } from '../conversion.js';
import { operand } from './elementwise.js';
import { zeroBeforePooling } from './pool.js';

/** aten::cat(tensors, dim): of the type that holds all; an empty vector is skipped, as PyTorch does. */
function cat(c: Conversion): string {
  const { dtype, rank } = c.result;
  const parts = c
    .slots(0)
    .filter((slot) => !(c.shapes.rank(slot) === 1 && c.shapes.fixed(slot)[0] === 0))
    .map((slot) => c.cast(c.value(slot), c.shapes.dtype(slot), dtype));
  return parts.length === 1 ? parts[0]! : c.emit('Concat', parts, { axis: c.dim(1, 0, rank) });
}

/** aten::stack(tensors, dim) */
function stack(c: Conversion): string {
  const { dtype, rank } = c.result;
  const axis = c.dim(1, 0, rank);
  const parts = c
    .slots(0)
    .map((slot) =>
      c.emit('Unsqueeze', [c.cast(c.value(slot), c.shapes.dtype(slot), dtype), c.ints64([axis])]),
    );
  return c.emit('Concat', parts, { axis });
}

/** Pieces of the given lengths; those that nobody uses are made all the same. */
function pieces(c: Conversion, dim: number, sizes: readonly SizeExpr[]): string[] {
  if (sizes.length === 1) return [c.tensor(0)];
  return c.emitMany('Split', [c.tensor(0), c.sizeTensor(sizes)], { axis: dim }, sizes.length);
}

/** `count` pieces of `size`, the last of which holds the rest. */
function equalPieces(c: Conversion, dim: number, size: SizeExpr): string[] {
  const count = c.node.outs.length;
  const rest = minus(c.length(c.slot(0), dim), times(size, count - 1));
  return pieces(c, dim, [...Array.from({ length: count - 1 }, () => c.fold(size)), c.fold(rest)]);
}

/** aten::chunk(self, chunks, dim) */
function chunk(c: Conversion): string[] {
  const dim = c.dim(2, 0);
  const chunks = c.number(1);
  // Rounded upwards: (length + chunks − 1) // chunks.
  return equalPieces(c, dim, c.fold(['//', plus(c.length(c.slot(0), dim), chunks - 1), chunks]));
}

/** aten::split.Tensor(self, size, dim) */
const split: Converter = (c) => equalPieces(c, c.dim(2, 0), c.size(1));

/** aten::split_with_sizes(self, sizes, dim) */
const splitWithSizes: Converter = (c) => pieces(c, c.dim(2, 0), c.sizes(1));

/** aten::unbind.int(self, dim) */
function unbind(c: Conversion): string[] {
  const axis = c.dim(1, 0);
  return c.node.outs.map((slot, i) =>
    slot === null ? '' : c.emit('Gather', [c.tensor(0), c.scalar(i, 'int64')], { axis }),
  );
}

/** aten::select.int(self, dim, index) */
const select: Converter = (c) => c.emit('Gather', [c.tensor(0), c.sizeScalar(c.size(2))], { axis: c.dim(1) });

/** aten::slice.Tensor(self, dim, start?, end?, step) */
function slice(c: Conversion): string {
  const bound = (i: number): SizeExpr | null => (c.isNull(i) ? null : clamped(c.size(i)));
  const step = c.isNull(4) ? 1 : c.size(4);
  return c.slice(c.tensor(0), c.dim(1, 0), bound(2), bound(3), step);
}

/** Python writes an open end as the largest integer. */
function clamped(size: SizeExpr): SizeExpr {
  return typeof size === 'number' ? Math.max(INT64_MIN, Math.min(INT64_MAX, size)) : size;
}

/** aten::narrow(self, dim, start, length) */
function narrow(c: Conversion): string {
  const dim = c.dim(1);
  let start = c.fold(c.size(2));
  if (typeof start === 'number' && start < 0) start = plus(c.length(c.slot(0), dim), start);
  return c.slice(c.tensor(0), dim, start, plus(start, c.size(3)));
}

/** aten::index_select(self, dim, index) */
const indexSelect: Converter = (c) => c.emit('Gather', [c.tensor(0), c.tensor(2)], { axis: c.dim(1) });

/** aten::gather(self, dim, index) */
const gather: Converter = (c) => c.emit('GatherElements', [c.tensor(0), c.tensor(2)], { axis: c.dim(1) });

/** aten::embedding(weight, indices) */
const embedding: Converter = (c) => c.emit('Gather', [c.tensor(0), c.tensor(1)], { axis: 0 });

/** aten::index.Tensor(self, indices): one tensor of integers, or several for the first dimensions. */
function index(c: Conversion): string {
  const slots = c.list(1).map((item) => slotOf(item));
  const given = slots.flatMap((slot, dim) => (slot === null ? [] : [{ slot, dim }]));
  if (given.length === 0) return c.tensor(0);
  if (given.some(({ slot }) => !/^int/.test(c.shapes.dtype(slot)))) {
    throw c.unsupported('an index that is not a tensor of integers');
  }
  if (given.length === 1) {
    return c.emit('Gather', [c.tensor(0), c.value(given[0]!.slot)], { axis: given[0]!.dim });
  }
  if (given.some(({ dim }, i) => dim !== i)) throw c.unsupported('several indices after a whole dimension');
  const rank = Math.max(...given.map(({ slot }) => c.shapes.rank(slot)));
  const common = Array.from({ length: rank }, (_, i) => {
    const all = given.map(
      ({ slot }) => c.shapes.fixed(slot).at(i - rank) ?? (c.shapes.rank(slot) < rank - i ? 1 : null),
    );
    if (all.includes(null))
      throw c.unsupported('several indices whose length depends on the size of the input');
    return all.find((length) => length !== 1) ?? 1;
  });
  const last = c.ints64([rank]);
  const coordinates = given.map(({ slot }) => {
    const whole = c.cast(c.value(slot), c.shapes.dtype(slot), 'int64');
    return c.emit('Unsqueeze', [c.emit('Expand', [whole, c.ints64(common)]), last]);
  });
  return c.emit('GatherND', [c.tensor(0), c.emit('Concat', coordinates, { axis: rank })]);
}

/** aten::roll(self, shifts, dims): what leaves at the end enters at the beginning. */
function roll(c: Conversion): string {
  const shifts = c.sizes(1);
  const dims = c.ints(2);
  if (dims.length === 0) throw c.unsupported('roll without dimensions');
  let x = c.tensor(0);
  for (const [i, shift] of shifts.entries()) {
    const dim = dims[i]! < 0 ? dims[i]! + c.rank(0) : dims[i]!;
    const length = c.length(c.slot(0), dim);
    const moved = c.fold(['%', shift, length]);
    if (moved === 0) continue;
    const cut = c.fold(minus(length, moved));
    x = c.emit('Concat', [c.slice(x, dim, cut, null), c.slice(x, dim, 0, cut)], { axis: dim });
  }
  return x;
}

/** aten::flip(self, dims) */
function flip(c: Conversion): string {
  const dims = c.ints(1);
  if (dims.length === 0) return c.tensor(0);
  const all = (value: number): string => c.ints64(dims.map(() => value));
  return c.emit('Slice', [c.tensor(0), all(-1), all(INT64_MIN), c.ints64(dims), all(-1)]);
}

const padModes: Readonly<Record<string, string>> = {
  constant: 'constant',
  reflect: 'reflect',
  replicate: 'edge',
};

/** Pads by pairs that begin with the last dimension; negative ones cut. */
function padded(c: Conversion, mode: string, value: number | null): string {
  const rank = c.rank(0);
  const pairs = c.sizes(1).map((size) => c.fold(size));
  const before: SizeExpr[] = Array.from({ length: rank }, () => 0);
  const after: SizeExpr[] = [...before];
  let x = c.tensor(0);
  for (let i = 0; i < pairs.length / 2; i++) {
    const dim = rank - 1 - i;
    const [begin, end] = [pairs[2 * i]!, pairs[2 * i + 1]!];
    const cuts = (size: SizeExpr): boolean => typeof size === 'number' && size < 0;
    if (cuts(begin) || cuts(end)) {
      x = c.slice(x, dim, cuts(begin) ? -(begin as number) : 0, cuts(end) ? end : null);
    }
    before[dim] = cuts(begin) ? 0 : begin;
    after[dim] = cuts(end) ? 0 : end;
  }
  if ([...before, ...after].every((size) => size === 0)) return x;
  const pools = [...c.readers(c.result.slot)].some((op) => /_pool2d$/.test(op));
  const zero = pools ? zeroBeforePooling(c.dtype(0)) : 0;
  const filling = mode === 'constant' ? value || zero : 0;
  const fill = filling === 0 ? [] : [c.scalar(filling, c.dtype(0))];
  return c.emit('Pad', [x, c.sizeTensor([...before, ...after]), ...fill], { mode });
}

/** Pads with what lies at the other end: Pad has a mode for it from opset 19 on. */
function circular(c: Conversion): string {
  const pairs = c.sizes(1);
  let x = c.tensor(0);
  for (let i = 0; i < pairs.length / 2; i++) {
    const dim = c.rank(0) - 1 - i;
    const length = c.length(c.slot(0), dim);
    const [begin, end] = [c.fold(pairs[2 * i]!), c.fold(pairs[2 * i + 1]!)];
    const parts = [
      ...(begin === 0 ? [] : [c.slice(x, dim, minus(length, begin), null)]),
      x,
      ...(end === 0 ? [] : [c.slice(x, dim, 0, end)]),
    ];
    if (parts.length > 1) x = c.emit('Concat', parts, { axis: dim });
  }
  return x;
}

/** aten::pad(self, pad, mode, value?) */
function pad(c: Conversion): string {
  const name = c.text(2, 'constant');
  if (name === 'circular') return circular(c);
  const mode = Object.hasOwn(padModes, name) ? padModes[name]! : null;
  if (mode === null) throw c.unsupported(`padding of mode '${name}'`);
  return padded(c, mode, c.isNull(3) ? null : c.number(3));
}

/** aten::tril / triu(self, diagonal) */
function triangle(upper: 0 | 1): Converter {
  return (c) => c.emit('Trilu', [operand(c, 0, c.dtype(0)), c.scalar(c.number(1, 0), 'int64')], { upper });
}

export const pieceConverters: ConverterTable = {
  'aten::cat': cat,
  'aten::stack': stack,
  'aten::chunk': chunk,
  'aten::split.Tensor': split,
  'aten::split_with_sizes': splitWithSizes,
  'aten::unbind.int': unbind,
  'aten::select.int': select,
  'aten::slice.Tensor': slice,
  'aten::narrow': narrow,
  'aten::index_select': indexSelect,
  'aten::gather': gather,
  'aten::embedding': embedding,
  'aten::index.Tensor': index,
  'aten::roll': roll,
  'aten::flip': flip,
  'aten::pad': pad,
  'aten::constant_pad_nd': (c) => padded(c, 'constant', c.isNull(2) ? null : c.number(2)),
  'aten::reflection_pad2d': (c) => padded(c, 'reflect', null),
  'aten::replication_pad2d': (c) => padded(c, 'edge', null),
  'aten::tril': triangle(0),
  'aten::triu': triangle(1),
};
