/** Convolutions and products of matrices. */
import type { Attributes } from '../builder.js';
import type { Conversion, ConverterTable } from '../conversion.js';
import { transposedParameter } from '../weights.js';

/** `count` numbers before and after each dimension. */
const symmetric = (padding: readonly number[]): number[] => [...padding, ...padding];

function convolution(
  c: Conversion,
  settings: { stride: number[]; dilation: number[]; groups: number; padding: Attributes },
): string {
  const weight = c.slot(1);
  const kernel = c.shapes.example(weight).slice(2);
  return batched(c, kernel.length, (x) =>
    c.emit('Conv', [x, c.value(weight), c.optionalTensor(2) ?? ''], {
      kernel_shape: kernel,
      strides: settings.stride,
      ...settings.padding,
      dilations: settings.dilation,
      group: settings.groups,
    }),
  );
}

/** ONNX convolutions want a batch: an input without one gets it for the moment. */
function batched(c: Conversion, spatial: number, convolve: (x: string) => string): string {
  if (c.rank(0) === spatial + 2) return convolve(c.tensor(0));
  const first = c.ints64([0]);
  return c.emit('Squeeze', [convolve(c.emit('Unsqueeze', [c.tensor(0), first])), first]);
}

/** aten::convNd(input, weight, bias?, stride, padding, dilation, groups) */
function conv(c: Conversion): string {
  const spatial = c.rank(1) - 2;
  const stride = c.ints(3, spatial, 1);
  const dilation = c.ints(5, spatial, 1);
  const groups = c.number(6, 1);
  if (typeof c.arg(4) !== 'string') {
    return convolution(c, { stride, dilation, groups, padding: { pads: symmetric(c.ints(4, spatial, 0)) } });
  }
  if (c.text(4, 'valid') === 'valid') return convolution(c, { stride, dilation, groups, padding: {} });
  // 'same' with stride 1: what does not split evenly goes to the end.
  const total = c.shapes
    .example(c.slot(1))
    .slice(2)
    .map((kernel, i) => dilation[i]! * (kernel - 1));
  const before = total.map((n) => Math.floor(n / 2));
  const pads = [...before, ...total.map((n, i) => n - before[i]!)];
  return convolution(c, { stride, dilation, groups, padding: { pads } });
}

function transposed(
  c: Conversion,
  settings: {
    stride: number[];
    padding: number[];
    outputPadding: number[];
    groups: number;
    dilation: number[];
  },
): string {
  const kernel = c.shapes.example(c.slot(1)).slice(2);
  return batched(c, kernel.length, (x) =>
    c.emit('ConvTranspose', [x, c.tensor(1), c.optionalTensor(2) ?? ''], {
      kernel_shape: kernel,
      strides: settings.stride,
      pads: symmetric(settings.padding),
      output_padding: settings.outputPadding,
      group: settings.groups,
      dilations: settings.dilation,
    }),
  );
}

/** aten::conv_transposeNd(input, weight, bias?, stride, padding, output_padding, groups, dilation) */
function convTranspose(c: Conversion): string {
  const spatial = c.rank(1) - 2;
  return transposed(c, {
    stride: c.ints(3, spatial, 1),
    padding: c.ints(4, spatial, 0),
    outputPadding: c.ints(5, spatial, 0),
    groups: c.number(6, 1),
    dilation: c.ints(7, spatial, 1),
  });
}

/** aten::convolution(input, weight, bias?, stride, padding, dilation, transposed, output_padding, groups) */
function anyConvolution(c: Conversion): string {
  const spatial = c.rank(1) - 2;
  const stride = c.ints(3, spatial, 1);
  const padding = c.ints(4, spatial, 0);
  const dilation = c.ints(5, spatial, 1);
  const groups = c.number(8, 1);
  if (!c.bool(6)) {
    return convolution(c, { stride, dilation, groups, padding: { pads: symmetric(padding) } });
  }
  return transposed(c, { stride, padding, outputPadding: c.ints(7, spatial, 0), groups, dilation });
}

/** aten::linear(input, weight, bias?) */
function linear(c: Conversion): string {
  const bias = c.optionalTensor(2);
  if (c.rank(0) === 2 && c.rank(1) === 2) {
    return c.emit('Gemm', [c.tensor(0), c.tensor(1), bias ?? ''], { transB: 1 });
  }
  const weight = c.slot(1);
  if (c.rank(1) !== 2) throw c.unsupported('the weight is not a matrix');
  const product = c.emit('MatMul', [c.tensor(0), transposedParameter(c, weight)]);
  return bias === null ? product : c.emit('Add', [product, bias]);
}

const matmul = (c: Conversion): string => c.emit('MatMul', [c.tensor(0), c.tensor(1)]);

/** aten::addmm / baddbmm(self, a, b, *, beta, alpha): beta·self + alpha·(a·b) */
function addMatmul(c: Conversion): string {
  const { dtype } = c.result;
  const scaled = (value: string, factor: number): string =>
    factor === 1 ? value : c.emit('Mul', [value, c.scalar(factor, dtype)]);
  const product = scaled(c.emit('MatMul', [c.tensor(1), c.tensor(2)]), c.number(4, 1));
  const beta = c.number(3, 1);
  return beta === 0 ? product : c.emit('Add', [scaled(c.tensor(0), beta), product]);
}

export const linearConverters: ConverterTable = {
  'aten::conv1d': conv,
  'aten::conv1d.padding': conv,
  'aten::conv2d': conv,
  'aten::conv2d.padding': conv,
  'aten::conv3d': conv,
  'aten::conv3d.padding': conv,
  'aten::conv_transpose1d': convTranspose,
  'aten::conv_transpose2d.input': convTranspose,
  'aten::conv_transpose3d.input': convTranspose,
  'aten::convolution': anyConvolution,
  'aten::linear': linear,
  'aten::matmul': matmul,
  'aten::mm': matmul,
  'aten::bmm': matmul,
  'aten::addmm': addMatmul,
  'aten::baddbmm': addMatmul,
};
