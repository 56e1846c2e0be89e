/** Convolution, pooling, normalisation and resampling, by the specification of ONNX opset 18. */
import type { GraphArg } from '../../../graph/format.js';
import type { NodeReader, NodeReaderTable, OnnxNode, Value } from './values.js';

interface Windows {
  strides: number[];
  dilations: number[];
  begin: number[];
  end: number[];
}

/** Strides, dilations and padding of `spatial` dimensions. */
function windows(n: OnnxNode, spatial: number): Windows {
  const autoPad = n.text('auto_pad', 'NOTSET');
  if (autoPad !== 'NOTSET') throw n.error(`auto_pad ${autoPad}`);
  const fill = (value: number, length = spatial): number[] => Array.from({ length }, () => value);
  const strides = n.ints('strides', fill(1));
  const dilations = n.ints('dilations', fill(1));
  const pads = n.ints('pads', fill(0, 2 * spatial));
  const sound =
    strides.length === spatial &&
    dilations.length === spatial &&
    pads.length === 2 * spatial &&
    [...strides, ...dilations].every((v) => v > 0) &&
    pads.every((v) => v >= 0 && v < 1 << 16);
  if (!sound) throw n.error('strides, dilations or pads that do not fit');
  return { strides, dilations, begin: pads.slice(0, spatial), end: pads.slice(spatial) };
}

/** Pads the spatial dimensions, the last of which comes first in libtorch. */
function padSpatial(
  n: OnnxNode,
  x: { slot: number },
  begin: number[],
  end: number[],
  value: number,
): { slot: number } {
  if ([...begin, ...end].every((p) => p === 0)) return x;
  const pads = begin.flatMap((_, i) => [begin.at(-1 - i)!, end.at(-1 - i)!]);
  n.bounded(n.shape(0).map((length, i) => length + (begin[i - 2] ?? 0) + (end[i - 2] ?? 0)));
  return n.g.slot(n.call('aten::constant_pad_nd', [x, pads, value]));
}

function checkKernel(n: OnnxNode, spatial: number): void {
  const kernel = n.ints('kernel_shape', n.shape(1).slice(2));
  if (kernel.join() !== n.shape(1).slice(2).join() || kernel.length !== spatial) {
    throw n.error('kernel_shape is not that of the weight');
  }
}

const conv: NodeReader = (n) => {
  const dtype = n.sameType(0, 1, 2);
  const spatial = n.rank(0) - 2;
  if (spatial < 1 || spatial > 3 || n.rank(1) !== spatial + 2) throw n.error('of these ranks');
  checkKernel(n, spatial);
  const { strides, dilations, begin, end } = windows(n, spatial);
  const x = padSpatial(n, n.x(0), begin, end, 0);
  const none = begin.map(() => 0);
  const group = n.int('group', 1);
  return n.call(`aten::conv${spatial}d`, [x, n.x(1), n.optional(2), strides, none, dilations, group], dtype);
};

const convTranspose: NodeReader = (n) => {
  const dtype = n.sameType(0, 1, 2);
  const spatial = n.rank(0) - 2;
  if (spatial < 1 || spatial > 3 || n.rank(1) !== spatial + 2) throw n.error('of these ranks');
  checkKernel(n, spatial);
  const { strides, dilations, begin, end } = windows(n, spatial);
  const extra = n.ints(
    'output_padding',
    begin.map(() => 0),
  );
  if (extra.length !== spatial || extra.some((v) => v < 0)) throw n.error('output_padding');
  const group = n.int('group', 1);
  const none = begin.map(() => 0);
  // The full result without padding, and with what output_padding adds at the end; then the padding is cut off.
  const overload = spatial === 1 ? '' : '.input';
  const full = n.call(
    `aten::conv_transpose${spatial}d${overload}`,
    [n.x(0), n.x(1), n.optional(2), strides, none, extra, group, dilations],
    dtype,
  );
  const cuts = begin.flatMap((_, i) => [-begin.at(-1 - i)!, -end.at(-1 - i)!]);
  if (cuts.every((cut) => cut === 0)) return full;
  return n.call('aten::constant_pad_nd', [n.g.slot(full), cuts, 0], dtype);
};

/** How far the last windows of ceil_mode reach beyond the padding at the end. */
function ceilExtra(n: OnnxNode, kernel: number[], { strides, dilations, begin, end }: Windows): number[] {
  if (n.int('ceil_mode', 0) === 0) return kernel.map(() => 0);
  return kernel.map((k, i) => {
    const reach = dilations[i]! * (k - 1) + 1;
    const padded = n.shape(0)[i + 2]! + begin[i]! + end[i]!;
    const out = Math.ceil((padded - reach) / strides[i]!) + 1;
    return Math.max(0, (out - 1) * strides[i]! + reach - padded);
  });
}

function poolKernel(n: OnnxNode): number[] {
  const kernel = n.ints('kernel_shape');
  if (kernel.length !== 2 || n.rank(0) !== 4 || kernel.some((k) => k < 1))
    throw n.error('of something else than images');
  return kernel;
}

/** Below every float32, so that padding never is the maximum. */
const LOWEST = -3.4028234663852886e38;

const maxPool: NodeReader = (n) => {
  const kernel = poolKernel(n);
  if (n.int('storage_order', 0) !== 0) throw n.error('storage_order');
  const w = windows(n, 2);
  const extra = ceilExtra(n, kernel, w);
  const x = padSpatial(
    n,
    n.x(0),
    w.begin,
    w.end.map((p, i) => p + extra[i]!),
    LOWEST,
  );
  return n.call('aten::max_pool2d', [x, kernel, w.strides, [0, 0], w.dilations, false]);
};

const averagePool: NodeReader = (n) => {
  const kernel = poolKernel(n);
  const w = windows(n, 2);
  if (w.dilations.some((d) => d !== 1)) throw n.error('dilations, which opset 18 does not have');
  if (n.int('ceil_mode', 0) !== 0) throw n.error('ceil_mode, of which versions of the specification differ');
  const sum = (x: { slot: number }): { slot: number } => {
    const padded = padSpatial(n, x, w.begin, w.end, 0);
    return n.g.slot(n.call('aten::avg_pool2d', [padded, kernel, w.strides, [0, 0], false, true, 1]));
  };
  const sums = sum(n.x(0));
  if (n.int('count_include_pad', 0) !== 0) {
    return n.call('aten::div.Scalar', [sums, kernel[0]! * kernel[1]!]);
  }
  const ones = n.g.slot(n.call('aten::ones_like', [n.x(0)]));
  return n.call('aten::div.Tensor', [sums, sum(ones)]);
};

function globalPool(op: string): NodeReader {
  return (n) => {
    const axes = Array.from({ length: n.rank(0) - 2 }, (_, i) => i + 2);
    return n.call(op, [n.x(0), axes, true]);
  };
}

/** [1, C, 1, …], to be broadcast with x. */
function perChannel(n: OnnxNode, i: number): { slot: number } {
  if (n.rank(i) !== 1) throw n.error(`input ${i} is not a vector`);
  const shape = [1, -1, ...Array.from({ length: n.rank(0) - 2 }, () => 1)];
  return n.g.slot(n.call('aten::reshape', [n.x(i), shape]));
}

/** scale · (x − mean) / √(variance + epsilon) + bias */
function affine(
  n: OnnxNode,
  parts: Record<'mean' | 'variance' | 'scale', { slot: number }> & { bias: { slot: number } | null },
  epsilon: number,
): Value {
  const on = (op: string, ...args: GraphArg[]): { slot: number } => n.g.slot(n.call(op, args));
  const deviation = on('aten::sqrt', on('aten::add.Scalar', parts.variance, epsilon));
  const centred = on('aten::sub.Tensor', n.x(0), parts.mean);
  const scaled = on('aten::mul.Tensor', on('aten::div.Tensor', centred, deviation), parts.scale);
  if (parts.bias === null) return { dtype: n.dtype(0), slot: scaled.slot, numbers: null, dims: null };
  return n.call('aten::add.Tensor', [scaled, parts.bias]);
}

const batchNormalization: NodeReader = (n) => {
  n.sameType(0, 1, 2, 3, 4);
  if (n.int('training_mode', 0) !== 0) throw n.error('training_mode');
  n.float('momentum', 0.9);
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => perChannel(n, i));
  return affine(
    n,
    { mean: mean!, variance: variance!, scale: scale!, bias: bias! },
    n.float('epsilon', 1e-5),
  );
};

/** Mean and variance (of the population) over axes. */
function moments(n: OnnxNode, axes: number[]): { mean: { slot: number }; variance: { slot: number } } {
  const mean = n.g.slot(n.call('aten::mean.dim', [n.x(0), axes, true]));
  const variance = n.g.slot(n.call('aten::var.correction', [n.x(0), axes, 0, true]));
  return { mean, variance };
}

const instanceNormalization: NodeReader = (n) => {
  n.sameType(0, 1, 2);
  const axes = Array.from({ length: n.rank(0) - 2 }, (_, i) => i + 2);
  const [scale, bias] = [perChannel(n, 1), perChannel(n, 2)];
  return affine(n, { ...moments(n, axes), scale, bias }, n.float('epsilon', 1e-5));
};

const layerNormalization: NodeReader = (n) => {
  n.sameType(0, 1, 2);
  if (n.int('stash_type', 1) !== 1) throw n.error('stash_type');
  const rank = n.rank(0);
  const [axis] = n.axes([n.int('axis', -1)], rank);
  const axes = Array.from({ length: rank - axis! }, (_, i) => axis! + i);
  return affine(n, { ...moments(n, axes), scale: n.x(1), bias: n.optional(2) }, n.float('epsilon', 1e-5));
};

const gridSample: NodeReader = (n) => {
  const modes = ['bilinear', 'nearest', 'bicubic'];
  const paddings = ['zeros', 'border', 'reflection'];
  const mode = modes.indexOf(n.text('mode', 'bilinear'));
  const padding = paddings.indexOf(n.text('padding_mode', 'zeros'));
  if (mode < 0 || padding < 0 || n.rank(0) !== 4) throw n.error('this mode or rank');
  return n.call('aten::grid_sampler', [n.x(0), n.x(1), mode, padding, n.int('align_corners', 0) !== 0]);
};

/** The sizes and factors of the last two dimensions. */
function resizeTarget(n: OnnxNode): { size: number[]; scales: number[] | null } {
  const shape = n.shape(0);
  if (shape.length !== 4) throw n.error('of something else than images');
  if (n.has(1) && n.shape(1).reduce((a, b) => a * b, 1) > 0) throw n.error('a region of interest');
  const scales = n.has(2) ? n.numbers(2) : [];
  const sizes = n.has(3) ? n.numbers(3) : [];
  if ((scales.length === 4) === (sizes.length === 4)) throw n.error('either scales or sizes');
  const size = sizes.length === 4 ? sizes : shape.map((length, i) => Math.floor(length * scales[i]!));
  if (size[0] !== shape[0] || size[1] !== shape[1]) throw n.error('of the batch or the channels');
  n.bounded(size);
  return { size: size.slice(2), scales: scales.length === 4 ? scales.slice(2) : null };
}

/** Which pixel is the nearest. */
const nearestRules: Readonly<Record<string, string>> = {
  'asymmetric floor': 'upsample_nearest2d',
  'half_pixel round_prefer_ceil': '_upsample_nearest_exact2d',
};

const resize: NodeReader = (n) => {
  const mode = n.text('mode', 'nearest');
  const coordinates = n.text('coordinate_transformation_mode', 'half_pixel');
  const rounding = n.text('nearest_mode', 'round_prefer_floor');
  const antialias = n.int('antialias', 0) !== 0;
  const outside = n.int('exclude_outside', 0) !== 0;
  const cubic = n.float('cubic_coeff_a', -0.75);
  if (n.text('keep_aspect_ratio_policy', 'stretch') !== 'stretch') throw n.error('keep_aspect_ratio_policy');
  const { size, scales } = resizeTarget(n);
  const target: GraphArg[] = scales === null ? [size] : [null];
  if (mode === 'nearest') {
    const rule = `${coordinates} ${rounding}`;
    const op = Object.hasOwn(nearestRules, rule) ? nearestRules[rule] : undefined;
    if (op === undefined || antialias) throw n.error(`${coordinates} with ${rounding}`);
    return n.call(`aten::${op}.vec`, [n.x(0), ...target, scales]);
  }
  const align = coordinates === 'align_corners';
  if (!align && coordinates !== 'half_pixel') throw n.error(coordinates);
  const kernel = mode === 'linear' ? 'bilinear' : mode === 'cubic' ? 'bicubic' : null;
  const expected = antialias ? -0.5 : -0.75;
  if (kernel === null || (kernel === 'bicubic' && cubic !== expected) || outside !== antialias) {
    throw n.error(`mode ${mode} with these coefficients`);
  }
  const op = antialias ? `aten::_upsample_${kernel}2d_aa.vec` : `aten::upsample_${kernel}2d.vec`;
  return n.call(op, [n.x(0), ...target, align, scales]);
};

const depthToSpace: NodeReader = (n) => {
  const [batch, channels, h, w] = n.shape(0);
  const b = n.int('blocksize');
  if (n.rank(0) !== 4 || b < 1 || channels! % (b * b) !== 0) throw n.error('of this shape');
  const depth = channels! / (b * b);
  const crd = n.text('mode', 'DCR') === 'CRD';
  const split = crd ? [batch!, depth, b, b, h!, w!] : [batch!, b, b, depth, h!, w!];
  const order = crd ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2];
  const parts = n.g.slot(n.call('aten::reshape', [n.x(0), split]));
  const moved = n.g.slot(n.call('aten::permute', [parts, order]));
  return n.call('aten::reshape', [moved, [batch!, depth, h! * b, w! * b]]);
};

export const layerReaders: NodeReaderTable = {
  Conv: conv,
  ConvTranspose: convTranspose,
  MaxPool: maxPool,
  AveragePool: averagePool,
  GlobalAveragePool: globalPool('aten::mean.dim'),
  GlobalMaxPool: globalPool('aten::amax'),
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  LayerNormalization: layerNormalization,
  GridSample: gridSample,
  Resize: resize,
  DepthToSpace: depthToSpace,
};
