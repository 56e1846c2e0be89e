/** Changes of shape, order and type; nothing is computed. */
import type { SizeExpr } from '../../../graph/format.js';
import type { Conversion, Converter, ConverterTable } from '../conversion.js';
import { normalizeDim } from '../arguments.js';
import { times } from '../conversion.js';

const identity: Converter = (c) => c.tensor(0);

/** The lengths of the first argument. */
function lengths(c: Conversion): SizeExpr[] {
  return Array.from({ length: c.rank(0) }, (_, dim) => c.length(c.slot(0), dim));
}

/** aten::reshape / view(self, shape) */
const reshape: Converter = (c) => c.reshape(c.tensor(0), c.result.slot, c.sizes(1));

/** aten::flatten.using_ints(self, start, end) */
function flatten(c: Conversion): string {
  const sizes = lengths(c);
  if (sizes.length === 0) return c.emit('Reshape', [c.tensor(0), c.ints64([1])]);
  const [start, end] = [c.dim(1, 0), c.dim(2, -1)];
  const merged = sizes.slice(start, end + 1).reduce((a, b) => times(a, b), 1);
  const target = [...sizes.slice(0, start), merged, ...sizes.slice(end + 1)];
  return c.reshape(c.tensor(0), c.result.slot, target);
}

/** aten::unflatten.int(self, dim, sizes) */
function unflatten(c: Conversion): string {
  const sizes = lengths(c);
  sizes.splice(c.dim(1), 1, ...c.sizes(2));
  return c.reshape(c.tensor(0), c.result.slot, sizes);
}

function transpose(c: Conversion, perm: readonly number[]): string {
  return perm.every((dim, i) => dim === i)
    ? c.tensor(0)
    : c.emit('Transpose', [c.tensor(0)], { perm: [...perm] });
}

/** aten::permute(self, dims) */
const permute: Converter = (c) => transpose(c, c.dims(1));

/** aten::transpose.int(self, dim0, dim1) */
function swap(c: Conversion): string {
  const perm = Array.from({ length: c.rank(0) }, (_, dim) => dim);
  const [a, b] = [c.dim(1), c.dim(2)];
  if (perm.length === 0) return c.tensor(0);
  [perm[a], perm[b]] = [b, a];
  return transpose(c, perm);
}

/** aten::movedim(self, source, destination) */
function movedim(c: Conversion): string {
  const rank = c.rank(0);
  const source = c.ints(1).map((dim) => normalizeDim(dim, rank));
  const destination = c.ints(2).map((dim) => normalizeDim(dim, rank));
  const rest = Array.from({ length: rank }, (_, dim) => dim).filter((dim) => !source.includes(dim));
  const perm = Array.from({ length: rank }, (_, dim) => {
    const moved = destination.indexOf(dim);
    return moved === -1 ? rest.shift()! : source[moved]!;
  });
  return transpose(c, perm);
}

/** aten::squeeze(self), .dim, .dims: a dimension of another length stays. */
function squeeze(c: Conversion): string {
  const fixed = c.fixed(0);
  const asked = c.node.args.length > 1 ? c.dims(1) : fixed.map((_, dim) => dim);
  const axes = asked.filter((dim) => {
    if (fixed[dim] === null) {
      throw c.unsupported(`whether dimension ${dim} has the length 1 depends on the size of the input`);
    }
    return fixed[dim] === 1;
  });
  return axes.length === 0 ? c.tensor(0) : c.emit('Squeeze', [c.tensor(0), c.ints64(axes)]);
}

/** aten::unsqueeze(self, dim) */
const unsqueeze: Converter = (c) =>
  c.emit('Unsqueeze', [c.tensor(0), c.ints64([c.dim(1, undefined, c.rank(0) + 1)])]);

/** aten::expand(self, size): −1 keeps a length, as 1 does in ONNX. */
const expand: Converter = (c) =>
  c.emit('Expand', [c.tensor(0), c.sizeTensor(c.sizes(1).map((size) => (size === -1 ? 1 : size)))]);

/** aten::expand_as(self, other) */
function expandAs(c: Conversion): string {
  const other = c.slot(1);
  const sizes = Array.from({ length: c.shapes.rank(other) }, (_, dim) => c.length(other, dim));
  return c.emit('Expand', [c.tensor(0), c.sizeTensor(sizes)]);
}

/** aten::repeat(self, repeats): more repeats than dimensions add leading ones. */
function repeat(c: Conversion): string {
  const repeats = c.sizes(1);
  const added = repeats.length - c.rank(0);
  let x = c.tensor(0);
  if (added > 0) x = c.emit('Unsqueeze', [x, c.ints64(Array.from({ length: added }, (_, i) => i))]);
  return c.emit('Tile', [x, c.sizeTensor(repeats)]);
}

/** aten::to.dtype(self, dtype), aten::_to_copy */
const to: Converter = (c) => c.cast(c.tensor(0), c.dtype(0), c.result.dtype);

/** aten::pixel_shuffle(self, r): [.., C·r·r, H, W] → [.., C, H·r, W·r] */
function pixelShuffle(c: Conversion): string {
  if (c.rank(0) !== 4) throw c.unsupported('an input without a batch');
  return c.emit('DepthToSpace', [c.tensor(0)], { blocksize: c.number(1), mode: 'CRD' });
}

/** aten::pixel_unshuffle(self, r): its order of channels is not that of SpaceToDepth. */
function pixelUnshuffle(c: Conversion): string {
  if (c.rank(0) !== 4) throw c.unsupported('an input without a batch');
  const r = c.number(1);
  const [n, channels, h, w] = lengths(c);
  const parts = (size: SizeExpr): SizeExpr => c.fold(['//', size, r]);
  const split = c.reshapeTo(c.tensor(0), [n!, channels!, parts(h!), r, parts(w!), r]);
  const ordered = c.emit('Transpose', [split], { perm: [0, 1, 3, 5, 2, 4] });
  return c.reshape(ordered, c.result.slot, [n!, times(channels!, r * r), parts(h!), parts(w!)]);
}

/** aten::channel_shuffle(self, groups) */
function channelShuffle(c: Conversion): string {
  const groups = c.number(1);
  const [n, channels, ...rest] = lengths(c);
  const split = c.reshapeTo(c.tensor(0), [n!, groups, c.fold(['//', channels!, groups]), ...rest]);
  const perm = [0, 2, 1, ...rest.map((_, i) => i + 3)];
  return c.reshape(c.emit('Transpose', [split], { perm }), c.result.slot, [n!, channels!, ...rest]);
}

/** Values that depend on sizes alone, where those are not fixed: else they are constants (see convert.ts). */
function filled(value: (c: Conversion) => number, shape: (c: Conversion) => SizeExpr[]): Converter {
  return (c) => c.emit('Expand', [c.scalar(value(c), c.result.dtype), c.sizeTensor(shape(c))]);
}

/** aten::arange(end), .start, .start_step: of whole numbers */
function arange(startAt: number | null, endAt: number, stepAt: number | null): Converter {
  return (c) => {
    const size = (i: number | null, fallback: number): string =>
      c.sizeScalar(i === null ? fallback : c.size(i));
    const range = c.emit('Range', [size(startAt, 0), size(endAt, 0), size(stepAt, 1)]);
    return c.cast(range, 'int64', c.result.dtype);
  };
}

export const shapeConverters: ConverterTable = {
  'aten::reshape': reshape,
  'aten::view': reshape,
  'aten::flatten.using_ints': flatten,
  'aten::unflatten.int': unflatten,
  'aten::permute': permute,
  'aten::transpose.int': swap,
  'aten::t': (c) => transpose(c, c.rank(0) === 2 ? [1, 0] : [0]),
  'aten::movedim.int': movedim,
  'aten::movedim.intlist': movedim,
  'aten::squeeze': squeeze,
  'aten::squeeze.dim': squeeze,
  'aten::squeeze.dims': squeeze,
  'aten::unsqueeze': unsqueeze,
  'aten::expand': expand,
  'aten::expand_as': expandAs,
  'aten::repeat': repeat,
  'aten::contiguous': identity,
  'aten::clone': identity,
  'aten::to.dtype': to,
  'aten::type_as': to,
  'aten::_to_copy': to,
  'aten::pixel_shuffle': pixelShuffle,
  'aten::pixel_unshuffle': pixelUnshuffle,
  'aten::channel_shuffle': channelShuffle,
  'aten::zeros': filled(
    () => 0,
    (c) => c.sizes(0),
  ),
  'aten::ones': filled(
    () => 1,
    (c) => c.sizes(0),
  ),
  'aten::full': filled(
    (c) => c.number(1),
    (c) => c.sizes(0),
  ),
  'aten::zeros_like': filled(() => 0, lengths),
  'aten::ones_like': filled(() => 1, lengths),
  'aten::full_like': filled((c) => c.number(1), lengths),
  'aten::new_zeros': filled(
    () => 0,
    (c) => c.sizes(1),
  ),
  'aten::new_ones': filled(
    () => 1,
    (c) => c.sizes(1),
  ),
  'aten::new_full': filled(
    (c) => c.number(2),
    (c) => c.sizes(1),
  ),
  'aten::arange': arange(null, 0, null),
  'aten::arange.start': arange(0, 1, null),
  'aten::arange.start_step': arange(0, 1, 2),
};
