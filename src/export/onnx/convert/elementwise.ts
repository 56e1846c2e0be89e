/** Arithmetic and comparison, element by element. */
import type { DType } from '../../../graph/format.js';
import type { Conversion, Converter, ConverterTable } from '../conversion.js';

/** Order of promotion: a result has the later type of its operands. */
const order: DType[] = [
  'bool',
  'uint8',
  'int8',
  'int16',
  'int32',
  'int64',
  'float16',
  'bfloat16',
  'float32',
  'float64',
];

function isFloat(dtype: DType): boolean {
  return /float/.test(dtype);
}

/** The type in which PyTorch compares an argument with another: numbers count only by their kind. */
function promoted(c: Conversion, i: number, j: number): DType {
  const types = [i, j].map((arg) => (c.optionalSlot(arg) === null ? null : c.dtype(arg)));
  const tensors = types.filter((type) => type !== null);
  const largest = tensors.reduce((a, b) => (order.indexOf(a) > order.indexOf(b) ? a : b));
  const number = [i, j].find((arg) => typeof c.arg(arg) === 'number');
  if (number !== undefined && !isFloat(largest)) {
    if (!Number.isInteger(c.arg(number))) return 'float32';
    if (largest === 'bool') return 'int64';
  }
  return largest;
}

/** An operand as a tensor of `dtype`: a tensor, a number or a size. */
export function operand(c: Conversion, i: number, dtype: DType): string {
  if (c.optionalSlot(i) !== null) return c.cast(c.tensor(i), c.dtype(i), dtype);
  const arg = c.arg(i);
  if (typeof arg === 'object') return c.cast(c.sizeScalar(c.size(i)), 'int64', dtype);
  return c.scalar(c.number(i), dtype);
}

function scaled(c: Conversion, value: string, factor: number, dtype: DType): string {
  return factor === 1 ? value : c.emit('Mul', [value, c.scalar(factor, dtype)]);
}

/** aten::add / sub(self, other, alpha) and rsub, which swaps them */
function additive(op: 'Add' | 'Sub', swap = false): Converter {
  return (c) => {
    const { dtype } = c.result;
    const self = operand(c, 0, dtype);
    const other = operand(c, 1, dtype);
    const alpha = c.number(2, 1);
    return swap
      ? c.emit(op, [other, scaled(c, self, alpha, dtype)])
      : c.emit(op, [self, scaled(c, other, alpha, dtype)]);
  };
}

function binary(op: string): Converter {
  return (c) => {
    const { dtype } = c.result;
    return c.emit(op, [operand(c, 0, dtype), operand(c, 1, dtype)]);
  };
}

/** aten::mul: of booleans it is their conjunction. */
function mul(c: Conversion): string {
  const { dtype } = c.result;
  return c.emit(dtype === 'bool' ? 'And' : 'Mul', [operand(c, 0, dtype), operand(c, 1, dtype)]);
}

/** The quotient rounded towards minus infinity. */
function floorDivide(c: Conversion, a: string, b: string, dtype: DType): string {
  if (isFloat(dtype)) return c.emit('Floor', [c.emit('Div', [a, b])]);
  return c.emit('Div', [c.emit('Sub', [a, c.emit('Mod', [a, b])]), b]);
}

/** aten::div.*_mode(self, other, rounding_mode) */
function divMode(c: Conversion): string {
  const { dtype } = c.result;
  const [a, b] = [operand(c, 0, dtype), operand(c, 1, dtype)];
  if (c.isNull(2)) return c.emit('Div', [a, b]);
  if (c.text(2, '') === 'floor') return floorDivide(c, a, b, dtype);
  const quotient = c.emit('Div', [a, b]);
  if (!isFloat(dtype)) return quotient;
  return c.emit('Mul', [c.emit('Sign', [quotient]), c.emit('Floor', [c.emit('Abs', [quotient])])]);
}

/** aten::remainder: takes the divisor's sign. */
function remainder(c: Conversion): string {
  const { dtype } = c.result;
  const [a, b] = [operand(c, 0, dtype), operand(c, 1, dtype)];
  if (!isFloat(dtype)) return c.emit('Mod', [a, b]);
  return c.emit('Sub', [a, c.emit('Mul', [b, c.emit('Floor', [c.emit('Div', [a, b])])])]);
}

/** aten::pow: small whole exponents as products, which every runtime computes alike. */
function pow(c: Conversion): string {
  const { dtype } = c.result;
  if (c.arg(1) === 2) {
    const x = operand(c, 0, dtype);
    return c.emit('Mul', [x, x]);
  }
  return c.emit('Pow', [operand(c, 0, dtype), operand(c, 1, dtype)]);
}

function comparison(op: string, negate = false): Converter {
  return (c) => {
    let dtype = promoted(c, 0, 1);
    // ONNX compares the order of numbers only.
    if (dtype === 'bool' && op !== 'Equal') dtype = 'int32';
    const result = c.emit(op, [operand(c, 0, dtype), operand(c, 1, dtype)]);
    return negate ? c.emit('Not', [result]) : result;
  };
}

function logical(op: 'And' | 'Or' | 'Xor'): Converter {
  return (c) => c.emit(op, [operand(c, 0, 'bool'), operand(c, 1, 'bool')]);
}

/** aten::bitwise_*: of booleans only. */
function bitwise(op: 'And' | 'Or' | 'Xor'): Converter {
  return (c) => {
    if (c.result.dtype !== 'bool') throw c.unsupported('bits of integers');
    return logical(op)(c);
  };
}

export function unary(op: string): Converter {
  return (c) => c.emit(op, [operand(c, 0, c.result.dtype)]);
}

/** aten::clamp(self, min?, max?): bounds may be numbers or tensors. */
function clamp(low: number | null, high: number | null): Converter {
  return (c) => {
    const { dtype } = c.result;
    let x = operand(c, 0, dtype);
    const bounds = ([low, high] as const).map((i) => (i === null || c.isNull(i) ? null : i));
    if (bounds.every((i) => i === null || c.optionalSlot(i) === null)) {
      return c.emit('Clip', [x, ...bounds.map((i) => (i === null ? '' : operand(c, i, dtype)))]);
    }
    if (bounds[0] != null) x = c.emit('Max', [x, operand(c, bounds[0], dtype)]);
    if (bounds[1] != null) x = c.emit('Min', [x, operand(c, bounds[1], dtype)]);
    return x;
  };
}

/** aten::where(condition, a, b) */
function where(c: Conversion): string {
  const { dtype } = c.result;
  return c.emit('Where', [operand(c, 0, 'bool'), operand(c, 1, dtype), operand(c, 2, dtype)]);
}

/** aten::masked_fill(self, mask, value) */
function maskedFill(c: Conversion): string {
  const { dtype } = c.result;
  return c.emit('Where', [operand(c, 1, 'bool'), operand(c, 2, dtype), operand(c, 0, dtype)]);
}

/** aten::addcmul / addcdiv(self, a, b, value) */
function addCombined(op: 'Mul' | 'Div'): Converter {
  return (c) => {
    const { dtype } = c.result;
    const combined = c.emit(op, [operand(c, 1, dtype), operand(c, 2, dtype)]);
    return c.emit('Add', [operand(c, 0, dtype), scaled(c, combined, c.number(3, 1), dtype)]);
  };
}

/** aten::lerp(self, end, weight) */
function lerp(c: Conversion): string {
  const { dtype } = c.result;
  const self = operand(c, 0, dtype);
  const step = c.emit('Mul', [operand(c, 2, dtype), c.emit('Sub', [operand(c, 1, dtype), self])]);
  return c.emit('Add', [self, step]);
}

/** The same conversion for the overloads of an operator. */
function overloads(op: string, names: readonly string[], converter: Converter): ConverterTable {
  return Object.fromEntries(names.map((name) => [name === '' ? op : `${op}.${name}`, converter]));
}
const both = ['Tensor', 'Scalar'] as const;

export const elementwiseConverters: ConverterTable = {
  ...overloads('aten::add', both, additive('Add')),
  ...overloads('aten::sub', both, additive('Sub')),
  ...overloads('aten::rsub', both, additive('Sub', true)),
  ...overloads('aten::mul', both, mul),
  ...overloads('aten::div', both, binary('Div')),
  ...overloads('aten::div', ['Tensor_mode', 'Scalar_mode'], divMode),
  ...overloads('aten::floor_divide', ['', 'Scalar'], (c) => {
    const { dtype } = c.result;
    return floorDivide(c, operand(c, 0, dtype), operand(c, 1, dtype), dtype);
  }),
  ...overloads('aten::remainder', both, remainder),
  ...overloads('aten::pow', ['Tensor_Scalar', 'Tensor_Tensor', 'Scalar'], pow),
  'aten::maximum': binary('Max'),
  'aten::minimum': binary('Min'),
  ...overloads('aten::eq', both, comparison('Equal')),
  ...overloads('aten::ne', both, comparison('Equal', true)),
  ...overloads('aten::lt', both, comparison('Less')),
  ...overloads('aten::le', both, comparison('LessOrEqual')),
  ...overloads('aten::gt', both, comparison('Greater')),
  ...overloads('aten::ge', both, comparison('GreaterOrEqual')),
  'aten::logical_and': logical('And'),
  'aten::logical_or': logical('Or'),
  'aten::logical_not': (c) => c.emit('Not', [operand(c, 0, 'bool')]),
  'aten::bitwise_and.Tensor': bitwise('And'),
  'aten::bitwise_or.Tensor': bitwise('Or'),
  'aten::bitwise_not': (c) => {
    if (c.result.dtype !== 'bool') throw c.unsupported('bits of integers');
    return c.emit('Not', [c.tensor(0)]);
  },
  ...overloads('aten::where', ['self', 'ScalarOther', 'ScalarSelf', 'Scalar'], where),
  ...overloads('aten::masked_fill', both, maskedFill),
  ...overloads('aten::clamp', ['', 'Tensor'], clamp(1, 2)),
  ...overloads('aten::clamp_min', ['', 'Tensor'], clamp(1, null)),
  ...overloads('aten::clamp_max', ['', 'Tensor'], clamp(null, 1)),
  'aten::addcmul': addCombined('Mul'),
  'aten::addcdiv': addCombined('Div'),
  ...overloads('aten::lerp', both, lerp),
  'aten::neg': unary('Neg'),
  'aten::abs': unary('Abs'),
  'aten::exp': unary('Exp'),
  'aten::log': unary('Log'),
  'aten::sqrt': unary('Sqrt'),
  'aten::sin': unary('Sin'),
  'aten::cos': unary('Cos'),
  'aten::tan': unary('Tan'),
  'aten::atan': unary('Atan'),
  'aten::erf': unary('Erf'),
  'aten::sign': unary('Sign'),
  'aten::floor': unary('Floor'),
  'aten::ceil': unary('Ceil'),
  'aten::round': unary('Round'),
  'aten::reciprocal': unary('Reciprocal'),
  'aten::rsqrt': (c) => c.emit('Reciprocal', [c.emit('Sqrt', [operand(c, 0, c.result.dtype)])]),
  'aten::square': (c) => c.emit('Mul', [c.tensor(0), c.tensor(0)]),
};
