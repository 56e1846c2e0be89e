/** Element by element, products and reductions, by the specification of ONNX opset 18. */
import type { DType, GraphArg } from '../../../graph/format.js';
import type { NodeReader, NodeReaderTable, OnnxNode, Value } from './values.js';

type Integers = (a: number, b: number) => number;

/** Numbers that are known are computed at once, with the broadcasting of vectors and scalars. */
function known(n: OnnxNode, compute: Integers): Value | null {
  const [a, b] = [n.value(0), n.value(1)];
  if (a.numbers === null || b.numbers === null || a.dtype !== 'int64' || b.dtype !== 'int64') return null;
  const [x, y] = [a.numbers, b.numbers];
  if (x.length !== y.length && x.length !== 1 && y.length !== 1)
    throw n.error('vectors of different lengths');
  const length = x.length === 1 ? y.length : x.length;
  const numbers = Array.from({ length }, (_, i) =>
    compute(x[x.length === 1 ? 0 : i]!, y[y.length === 1 ? 0 : i]!),
  );
  if (!numbers.every(Number.isSafeInteger)) throw n.error('a size beyond what is sound');
  return n.g.integers(numbers, a.dims!.length >= b.dims!.length ? a.dims! : b.dims!);
}

function binary(op: string, compute: Integers, extra: GraphArg[] = []): NodeReader {
  return (n) => {
    const dtype = n.sameType(0, 1);
    return known(n, compute) ?? n.call(op, [n.x(0), n.x(1), ...extra], dtype);
  };
}

const isInteger = (dtype: DType): boolean => /int/.test(dtype);

/** Of integers it rounds towards zero. */
const div: NodeReader = (n) => {
  const dtype = n.sameType(0, 1);
  const computed = known(n, (a, b) => {
    if (b === 0) throw n.error('division by zero');
    return Math.trunc(a / b);
  });
  if (computed !== null) return computed;
  return isInteger(dtype)
    ? n.call('aten::div.Tensor_mode', [n.x(0), n.x(1), 'trunc'], dtype)
    : n.call('aten::div.Tensor', [n.x(0), n.x(1)], dtype);
};

/** Of integers it takes the divisor's sign. */
const mod: NodeReader = (n) => {
  if (n.int('fmod', 0) !== 0) throw n.error('fmod');
  const dtype = n.sameType(0, 1);
  if (!isInteger(dtype)) throw n.error('of floats without fmod');
  const computed = known(n, (a, b) => {
    if (b === 0) throw n.error('division by zero');
    return a - b * Math.floor(a / b);
  });
  return computed ?? n.call('aten::remainder.Tensor', [n.x(0), n.x(1)], dtype);
};

/** Of any number of inputs. */
function variadic(op: string, compute: Integers): NodeReader {
  return (n) => {
    const dtype = n.sameType(...Array.from({ length: n.count }, (_, i) => i));
    if (n.count === 2) {
      const computed = known(n, compute);
      if (computed !== null) return computed;
    }
    let result = n.value(0);
    for (let i = 1; i < n.count; i++) result = n.call(op, [n.g.slot(result), n.x(i)], dtype);
    return result;
  };
}

function comparison(op: string): NodeReader {
  return (n) => {
    const dtype = n.sameType(0, 1);
    if (dtype === 'bool' && op !== 'aten::eq.Tensor') throw n.error('an order of booleans');
    return n.call(op, [n.x(0), n.x(1)], 'bool');
  };
}

function logical(op: string): NodeReader {
  return (n) => {
    if (n.sameType(0, 1) !== 'bool') throw n.error('of something else than booleans');
    return n.call(op, [n.x(0), n.x(1)], 'bool');
  };
}

function unary(op: string, extra: GraphArg[] = []): NodeReader {
  return (n) => n.call(op, [n.x(0), ...extra]);
}

/** min(max(x, low), high) with numbers. */
function clamped(n: OnnxNode, x: Value, low: number, high: number): Value {
  return n.call('aten::clamp', [n.g.slot(x), low, high]);
}

/** max(0, min(1, alpha·x + beta)) */
function hardSigmoid(n: OnnxNode, alpha: number, beta: number): Value {
  const scaled = n.call('aten::add.Scalar', [n.g.slot(n.call('aten::mul.Scalar', [n.x(0), alpha])), beta]);
  return clamped(n, scaled, 0, 1);
}

const clip: NodeReader = (n) => {
  n.sameType(...[0, 1, 2].filter((i) => n.has(i)));
  let x = n.value(0);
  if (n.has(1)) x = n.call('aten::maximum', [n.g.slot(x), n.x(1)]);
  if (n.has(2)) x = n.call('aten::minimum', [n.g.slot(x), n.x(2)]);
  return x;
};

const where: NodeReader = (n) => {
  if (n.dtype(0) !== 'bool') throw n.error('a condition that is not boolean');
  const dtype = n.sameType(1, 2);
  return n.call('aten::where.self', [n.x(0), n.x(1), n.x(2)], dtype);
};

/** slope·x below zero; the slope is broadcast to x. */
const prelu: NodeReader = (n) => {
  n.sameType(0, 1);
  const negative = n.call('aten::lt.Scalar', [n.x(0), 0], 'bool');
  const scaled = n.call('aten::mul.Tensor', [n.x(0), n.x(1)]);
  return n.call('aten::where.self', [n.g.slot(negative), n.g.slot(scaled), n.x(0)]);
};

/** alpha·A'·B' + beta·C */
const gemm: NodeReader = (n) => {
  const dtype = n.sameType(0, 1, 2);
  if (n.rank(0) !== 2 || n.rank(1) !== 2) throw n.error('of something else than matrices');
  const side = (i: number, name: string): { slot: number } =>
    n.int(name, 0) === 0 ? n.x(i) : n.g.slot(n.call('aten::t', [n.x(i)], dtype));
  const scaled = (value: Value, factor: number): Value =>
    factor === 1 ? value : n.call('aten::mul.Scalar', [n.g.slot(value), factor], dtype);
  const product = n.call('aten::mm', [side(0, 'transA'), side(1, 'transB')], dtype);
  const [alpha, beta] = [n.float('alpha', 1), n.float('beta', 1)];
  const left = scaled(product, alpha);
  if (!n.has(2)) return left;
  return n.call('aten::add.Tensor', [n.g.slot(left), n.g.slot(scaled(n.value(2), beta))], dtype);
};

/** Over the axes of input 1, by default over all. */
function reduction(
  reduce: (n: OnnxNode, x: { slot: number }, axes: number[], keep: boolean) => Value,
): NodeReader {
  return (n) => {
    const keep = n.int('keepdims', 1) !== 0;
    const noop = n.int('noop_with_empty_axes', 0) !== 0;
    const rank = n.rank(0);
    const given = n.has(1) ? n.axes(n.numbers(1), rank) : [];
    if (given.length === 0 && noop) return n.value(0);
    const axes = given.length === 0 ? Array.from({ length: rank }, (_, i) => i) : given;
    return reduce(n, n.x(0), axes, keep);
  };
}

/** One axis after another, for operators that take only one. */
const product = reduction((n, x, axes, keep) => {
  let value = x;
  for (const axis of [...axes].sort((a, b) => b - a)) {
    value = n.g.slot(n.call('aten::prod.dim_int', [value, axis, keep]));
  }
  return { dtype: n.dtype(0), slot: value.slot, numbers: null, dims: null };
});

function argument(op: string): NodeReader {
  return (n) => {
    if (n.int('select_last_index', 0) !== 0) throw n.error('select_last_index');
    const [axis] = n.axes([n.int('axis', 0)], n.rank(0));
    return n.call(op, [n.x(0), axis!, n.int('keepdims', 1) !== 0], 'int64');
  };
}

function softmax(op: string): NodeReader {
  return (n) => n.call(op, [n.x(0), n.axes([n.int('axis', -1)], n.rank(0))[0]!]);
}

const topK: NodeReader = (n) => {
  const [axis] = n.axes([n.int('axis', -1)], n.rank(0));
  const [largest, sorted] = [n.int('largest', 1) !== 0, n.int('sorted', 1) !== 0];
  return n.g.callMany(
    'aten::topk',
    [n.x(0), n.numbers(1)[0]!, axis!, largest, sorted],
    [n.dtype(0), 'int64'],
  );
};

const cumSum: NodeReader = (n) => {
  if (n.int('exclusive', 0) !== 0 || n.int('reverse', 0) !== 0) throw n.error('exclusive or reverse');
  return n.call('aten::cumsum', [n.x(0), n.axes(n.numbers(1), n.rank(0))[0]!]);
};

export const mathReaders: NodeReaderTable = {
  Add: binary('aten::add.Tensor', (a, b) => a + b),
  Sub: binary('aten::sub.Tensor', (a, b) => a - b),
  Mul: binary('aten::mul.Tensor', (a, b) => a * b),
  Div: div,
  Mod: mod,
  Pow: (n) => n.call('aten::pow.Tensor_Tensor', [n.x(0), n.x(1)]),
  Max: variadic('aten::maximum', Math.max),
  Min: variadic('aten::minimum', Math.min),
  Equal: comparison('aten::eq.Tensor'),
  Less: comparison('aten::lt.Tensor'),
  LessOrEqual: comparison('aten::le.Tensor'),
  Greater: comparison('aten::gt.Tensor'),
  GreaterOrEqual: comparison('aten::ge.Tensor'),
  And: logical('aten::logical_and'),
  Or: logical('aten::logical_or'),
  Not: (n) => n.call('aten::logical_not', [n.x(0)], 'bool'),
  Where: where,
  Relu: unary('aten::relu'),
  Sigmoid: unary('aten::sigmoid'),
  Tanh: unary('aten::tanh'),
  Exp: unary('aten::exp'),
  Log: unary('aten::log'),
  Sqrt: unary('aten::sqrt'),
  Neg: unary('aten::neg'),
  Abs: unary('aten::abs'),
  Erf: unary('aten::erf'),
  Floor: unary('aten::floor'),
  Ceil: unary('aten::ceil'),
  Round: unary('aten::round'),
  Sign: unary('aten::sign'),
  Sin: unary('aten::sin'),
  Cos: unary('aten::cos'),
  Tan: unary('aten::tan'),
  Atan: unary('aten::atan'),
  Reciprocal: unary('aten::reciprocal'),
  Softplus: unary('aten::softplus'),
  Selu: (n) => {
    const [alpha, gamma] = [
      n.float('alpha', 1.67326319217681884765625),
      n.float('gamma', 1.05070102214813232421875),
    ];
    return n.call('aten::elu', [n.x(0), alpha, gamma]);
  },
  Elu: (n) => n.call('aten::elu', [n.x(0), n.float('alpha', 1)]),
  LeakyRelu: (n) => n.call('aten::leaky_relu', [n.x(0), n.float('alpha', 0.01)]),
  HardSigmoid: (n) => hardSigmoid(n, n.float('alpha', 0.2), n.float('beta', 0.5)),
  HardSwish: (n) => n.call('aten::mul.Tensor', [n.x(0), n.g.slot(hardSigmoid(n, 1 / 6, 0.5))]),
  Clip: clip,
  PRelu: prelu,
  MatMul: (n) => n.call('aten::matmul', [n.x(0), n.x(1)], n.sameType(0, 1)),
  Gemm: gemm,
  ReduceSum: reduction((n, x, axes, keep) => n.call('aten::sum.dim_IntList', [x, axes, keep])),
  ReduceMean: reduction((n, x, axes, keep) => n.call('aten::mean.dim', [x, axes, keep])),
  ReduceMax: reduction((n, x, axes, keep) => n.call('aten::amax', [x, axes, keep])),
  ReduceMin: reduction((n, x, axes, keep) => n.call('aten::amin', [x, axes, keep])),
  ReduceL1: reduction((n, x, axes, keep) => n.call('aten::linalg_vector_norm', [x, 1, axes, keep])),
  ReduceL2: reduction((n, x, axes, keep) => n.call('aten::linalg_vector_norm', [x, 2, axes, keep])),
  ReduceLogSumExp: reduction((n, x, axes, keep) => n.call('aten::logsumexp', [x, axes, keep])),
  ReduceProd: product,
  ArgMax: argument('aten::argmax'),
  ArgMin: argument('aten::argmin'),
  Softmax: softmax('aten::softmax.int'),
  LogSoftmax: softmax('aten::log_softmax.int'),
  TopK: topK,
  CumSum: cumSum,
};
