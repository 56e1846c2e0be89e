/** Activations. */
import { float } from '../builder.js';
import type { Conversion, Converter, ConverterTable } from '../conversion.js';
import { unary } from './elementwise.js';

function scalarOf(c: Conversion, value: number): string {
  return c.scalar(value, c.result.dtype);
}

/** aten::gelu(self, approximate): the Gelu operator is younger than opset 18. */
function gelu(c: Conversion): string {
  const x = c.tensor(0);
  const half = c.emit('Mul', [x, scalarOf(c, 0.5)]);
  let inner: string;
  if (c.text(1, 'none') === 'tanh') {
    const cube = c.emit('Mul', [c.emit('Mul', [x, x]), x]);
    const sum = c.emit('Add', [x, c.emit('Mul', [cube, scalarOf(c, 0.044715)])]);
    inner = c.emit('Tanh', [c.emit('Mul', [sum, scalarOf(c, Math.sqrt(2 / Math.PI))])]);
  } else {
    inner = c.emit('Erf', [c.emit('Div', [x, scalarOf(c, Math.SQRT2)])]);
  }
  return c.emit('Mul', [half, c.emit('Add', [inner, scalarOf(c, 1)])]);
}

const silu: Converter = (c) => c.emit('Mul', [c.tensor(0), c.emit('Sigmoid', [c.tensor(0)])]);
const mish: Converter = (c) =>
  c.emit('Mul', [c.tensor(0), c.emit('Tanh', [c.emit('Softplus', [c.tensor(0)])])]);
const relu6: Converter = (c) => c.emit('Clip', [c.tensor(0), scalarOf(c, 0), scalarOf(c, 6)]);
const hardsigmoid: Converter = (c) =>
  c.emit('HardSigmoid', [c.tensor(0)], { alpha: float(1 / 6), beta: float(0.5) });
const leakyRelu: Converter = (c) => c.emit('LeakyRelu', [c.tensor(0)], { alpha: float(c.number(1, 0.01)) });
/** aten::hardtanh(self, min, max) */
const hardtanh: Converter = (c) =>
  c.emit('Clip', [c.tensor(0), scalarOf(c, c.number(1, -1)), scalarOf(c, c.number(2, 1))]);

/** aten::elu(self, alpha, scale, input_scale) */
function elu(c: Conversion): string {
  if (c.number(2, 1) !== 1 || c.number(3, 1) !== 1) throw c.unsupported('scale and input_scale');
  return c.emit('Elu', [c.tensor(0)], { alpha: float(c.number(1, 1)) });
}

/** aten::softplus(self, beta, threshold): beyond the threshold the result is the input, within rounding. */
function softplus(c: Conversion): string {
  if (c.number(1, 1) !== 1) throw c.unsupported('beta');
  return c.emit('Softplus', [c.tensor(0)]);
}

/** aten::prelu(self, weight): one slope per channel */
function prelu(c: Conversion): string {
  const rank = c.rank(0);
  const slope =
    rank > 2
      ? c.emit('Reshape', [c.tensor(1), c.ints64([-1, ...Array.from({ length: rank - 2 }, () => 1)])])
      : c.tensor(1);
  return c.emit('PRelu', [c.tensor(0), slope]);
}

/** aten::glu(self, dim): one half times the sigmoid of the other */
function glu(c: Conversion): string {
  const dim = c.dim(1, -1);
  const x = c.tensor(0);
  const half = c.fold(['//', c.length(c.slot(0), dim), 2]);
  return c.emit('Mul', [c.slice(x, dim, 0, half), c.emit('Sigmoid', [c.slice(x, dim, half, null)])]);
}

export const activationConverters: ConverterTable = {
  'aten::relu6': relu6,
  'aten::leaky_relu': leakyRelu,
  'aten::silu': silu,
  'aten::mish': mish,
  'aten::gelu': gelu,
  'aten::hardswish': (c) => c.emit('HardSwish', [c.tensor(0)]),
  'aten::hardsigmoid': hardsigmoid,
  'aten::hardtanh': hardtanh,
  'aten::elu': elu,
  'aten::selu': unary('Selu'),
  'aten::softplus': softplus,
  'aten::prelu': prelu,
  'aten::glu': glu,
  'aten::relu': unary('Relu'),
  'aten::log_sigmoid': (c) => c.emit('Neg', [c.emit('Softplus', [c.emit('Neg', [c.tensor(0)])])]),
  'aten::sigmoid': unary('Sigmoid'),
  'aten::tanh': unary('Tanh'),
};
