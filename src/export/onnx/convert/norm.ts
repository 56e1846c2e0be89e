/** Normalisation. */
import { float } from '../builder.js';
import type { Conversion, ConverterTable } from '../conversion.js';

/** A vector of `value`, for a parameter that is not there. */
function filled(c: Conversion, value: number, length: number): string {
  return c.constant(
    Array.from({ length }, () => value),
    c.dtype(0),
  );
}

/** The vector of an argument, shaped to be multiplied with [N, C, …]. */
function perChannel(c: Conversion, value: string, rank: number): string {
  if (rank <= 2) return value;
  return c.emit('Reshape', [value, c.ints64([-1, ...Array.from({ length: rank - 2 }, () => 1)])]);
}

/** aten::batch_norm(input, weight?, bias?, running_mean?, running_var?, training, momentum, eps, cudnn) */
function batchNorm(c: Conversion): string {
  const eps = c.number(7, 1e-5);
  const mean = c.optionalTensor(3);
  const variance = c.optionalTensor(4);
  if (!c.bool(5) && mean !== null && variance !== null) {
    const channels = c.shapes.example(c.slot(3))[0]!;
    const weight = c.optionalTensor(1) ?? filled(c, 1, channels);
    const bias = c.optionalTensor(2) ?? filled(c, 0, channels);
    return c.emit('BatchNormalization', [c.tensor(0), weight, bias, mean, variance], { epsilon: float(eps) });
  }
  // Without running statistics: by those of the batch itself.
  const axes = c.ints64(Array.from({ length: c.rank(0) }, (_, i) => i).filter((i) => i !== 1));
  const centred = c.emit('Sub', [c.tensor(0), c.emit('ReduceMean', [c.tensor(0), axes])]);
  return scaledAndShifted(c, standardized(c, centred, axes, eps), 1, 2);
}

/** Times the weight plus the bias, each if it is there, channel by channel. */
function scaledAndShifted(c: Conversion, x: string, weightAt: number, biasAt: number): string {
  const [weight, bias] = [c.optionalTensor(weightAt), c.optionalTensor(biasAt)];
  const rank = c.rank(0);
  const scaled = weight === null ? x : c.emit('Mul', [x, perChannel(c, weight, rank)]);
  return bias === null ? scaled : c.emit('Add', [scaled, perChannel(c, bias, rank)]);
}

function standardized(c: Conversion, centred: string, axes: string, eps: number): string {
  const variance = c.emit('ReduceMean', [c.emit('Mul', [centred, centred]), axes]);
  const deviation = c.emit('Sqrt', [c.emit('Add', [variance, c.scalar(eps, c.dtype(0))])]);
  return c.emit('Div', [centred, deviation]);
}

/** aten::layer_norm(input, normalized_shape, weight?, bias?, eps, cudnn) */
function layerNorm(c: Conversion): string {
  const shape = c.ints(1);
  const weight =
    c.optionalTensor(2) ??
    c.constant(
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 1),
      c.dtype(0),
      shape,
    );
  return c.emit('LayerNormalization', [c.tensor(0), weight, c.optionalTensor(3) ?? ''], {
    axis: -shape.length,
    epsilon: float(c.number(4, 1e-5)),
  });
}

/**
 * aten::group_norm(input, groups, weight?, bias?, eps, cudnn): instance norm over groups. GroupNormalization of
 * opset 18 scales by group instead of by channel.
 */
function groupNorm(c: Conversion): string {
  const groups = c.number(1);
  const grouped = c.emit('Reshape', [c.tensor(0), c.ints64([0, groups, -1])]);
  const normalized = c.emit('InstanceNormalization', [grouped, filled(c, 1, groups), filled(c, 0, groups)], {
    epsilon: float(c.number(4, 1e-5)),
  });
  const sizes = Array.from({ length: c.rank(0) }, (_, dim) => c.length(c.slot(0), dim));
  return scaledAndShifted(c, c.reshape(normalized, c.result.slot, sizes), 2, 3);
}

/** aten::linalg_vector_norm(self, ord, dim?, keepdim, dtype) */
function vectorNorm(c: Conversion): string {
  const order = c.number(1, 2);
  const keepdims = Number(c.bool(3));
  const axes = c.ints64(c.dims(2));
  const x = c.tensor(0);
  if (order === 1 || order === 2)
    return c.emit(order === 1 ? 'ReduceL1' : 'ReduceL2', [x, axes], { keepdims });
  if (order === 0) throw c.unsupported('a norm of order 0');
  const { dtype } = c.result;
  const powers = c.emit('Pow', [c.emit('Abs', [x]), c.scalar(order, dtype)]);
  return c.emit('Pow', [c.emit('ReduceSum', [powers, axes], { keepdims }), c.scalar(1 / order, dtype)]);
}

export const normConverters: ConverterTable = {
  'aten::batch_norm': batchNorm,
  'aten::layer_norm': layerNorm,
  'aten::group_norm': groupNorm,
  'aten::linalg_vector_norm': vectorNorm,
};
