/** One-node graphs of operators that model files may use, with arguments drawn at random by their schema. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { dtypes } from '#fornax/graph/dtypes.js';
import type { DType, Graph, GraphArg } from '#fornax/graph/format.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor, OperatorSchema } from '#fornax/native/contract.js';
import { random } from './random.js';

/** All overloads that the operators of the allow-list have in libtorch, apart from those on scalars and lists. */
const overloads =
  ' Scalar ScalarOther ScalarSelf ScalarOpt_dim ScalarOpt_dim_dtype ScalarOpt_dtype Scalar_Tensor Scalar_mode ' +
  'Tensor Tensor_Scalar Tensor_Tensor Tensor_mode bool correction decimals device dim dim_IntList dim_int dims ' +
  'dtype dtype_layout indexing indices input int intlist other padding prim_Device prim_dtype prim_other reduce ' +
  'sections self self_Tensor self_int sizes src stable start start_step sublist tensor_indices_or_sections ' +
  'using_ints value value_reduce vec';

/** The names in native/graph/allow_list.cc: the list itself, not a copy that could fall behind. */
export function allowedOperators(): OperatorSchema[] {
  const source = readFileSync(
    fileURLToPath(new URL('../../../../native/graph/allow_list.cc', import.meta.url)),
    'utf8',
  );
  const names = [...source.matchAll(/^ +"((?:aten|fornax)::\w+)",/gm)].map(([, name]) => name!);
  return names.flatMap((name) =>
    overloads
      .split(' ')
      .map((overload) => loadAddon().operatorSchema(overload ? `${name}.${overload}` : name))
      .filter((schema) => schema !== null),
  );
}

type Next = (n: number) => number;

function pick<T>(next: Next, values: readonly T[]): T {
  return values[next(values.length)]!;
}

const HUGE = [2 ** 31, 2 ** 33 + 1, 2 ** 40, 2 ** 53 - 1, -(2 ** 31) - 1, -(2 ** 53) + 1];
const TEXTS = ['none', 'constant', 'reflect', 'replicate', 'circular', 'same', 'valid', 'floor', 'trunc']
  .concat(['add', 'multiply', 'tanh', 'ij', 'ij,jk->ik', 'bchw,oc->bohw', '...', '->', 'sum', ''])
  .concat(['mean', 'ij->ji', 'aa->a']);

export interface OperatorCase {
  graph: Graph;
  inputs: Record<string, NativeTensor>;
  specs: { shape: number[]; dtype: DType }[];
  /** The node with its inputs, for a report. */
  text: string;
}

/** Draws arguments for one call. Most numbers are small, so that many calls are valid; some are absurd. */
class Draw {
  readonly specs: { shape: number[]; dtype: DType }[] = [];
  readonly inputs: Record<string, NativeTensor> = {};
  /** Calls where nothing absurd is drawn reach further into the operator. */
  private readonly tame: boolean;
  private readonly base: number[];
  private readonly dtype: DType;

  constructor(private readonly next: Next) {
    this.tame = next(3) === 0;
    this.base = Array.from({ length: pick(next, [0, 1, 2, 3, 4, 4, 4, 5]) }, () => 1 + next(4));
    this.dtype = next(3) > 0 ? 'float32' : pick(next, dtypes);
  }

  private integer(): number {
    const { next } = this;
    if (!this.tame && next(12) === 0) return pick(next, HUGE);
    return this.tame || next(3) > 0 ? next(4) : next(12) - 5;
  }

  private number(): number {
    const { next } = this;
    if (!this.tame && next(8) === 0) return pick(next, [1e30, -1e30, 1e-45, 1e308, -0.0]);
    return next(2) ? this.integer() : next(200) / 50 - 1.5;
  }

  private shape(): number[] {
    const { next, base } = this;
    if (next(3) > 0) return base;
    if (next(2)) return base.map((size) => (next(3) ? size : next(4)));
    return Array.from({ length: next(6) }, () => next(5));
  }

  private tensor(): GraphArg {
    const { next } = this;
    const shape = this.shape();
    const dtype = next(4) > 0 ? this.dtype : pick(next, ['int64', 'int64', ...dtypes] as const);
    const count = shape.reduce((product, size) => product * size, 1);
    const integers = dtype === 'int64';
    const values = integers
      ? BigInt64Array.from({ length: count }, () => BigInt(this.integer()))
      : Float32Array.from({ length: count }, () => (next(50) ? this.number() : NaN));
    const { Tensor } = loadAddon();
    const made = Tensor.fromTypedArray(values, shape);
    const name = `x${this.specs.length}`;
    this.inputs[name] = made.to({ dtype });
    this.specs.push({ shape, dtype });
    return { slot: this.specs.length - 1 };
  }

  private list(most: number, item: () => GraphArg): GraphArg[] {
    return Array.from({ length: this.next(most + 1) }, item);
  }

  argument(type: string): GraphArg {
    const { next } = this;
    if (type === 'Tensor?[]') return this.list(4, () => (next(3) ? this.tensor() : null));
    if (type.endsWith('?')) return next(2) > 0 ? null : this.argument(type.slice(0, -1));
    if (type.endsWith('[]')) {
      const item = type.slice(0, -2);
      // As many as there are dimensions, or as an image has.
      const length = pick(next, [2, 2, 2, 1, 3, 4, this.base.length, next(6)]);
      return Array.from({ length }, () => this.argument(item));
    }
    switch (type) {
      case 'Tensor':
        return this.tensor();
      case 'int':
      case 'SymInt':
        return next(40) ? this.integer() : { expr: ['+', ['size', 0, -1], this.integer()] };
      case 'float':
        return this.number();
      case 'Scalar':
        return next(6) ? this.number() : next(2) === 0;
      case 'bool':
        return next(2) === 0;
      case 'str':
        return pick(next, TEXTS);
      case 'ScalarType':
        return { dtype: pick(next, dtypes) };
      case 'Generator':
        return { generator: true };
      case 'Layout':
      case 'MemoryFormat':
        return next(6);
      default:
        return null; // the device: only the session's own
    }
  }
}

export function operatorCase(schema: OperatorSchema, seed: number): OperatorCase {
  const next = random(seed);
  const draw = new Draw(next);
  const count = next(3) ? schema.arguments.length : next(schema.arguments.length + 1);
  const args = schema.arguments.slice(0, count).map(({ type }) => draw.argument(type));
  const first = draw.specs.length;
  const results = schema.returns.length === 1 && schema.returns[0]!.endsWith('[]') ? 1 + next(3) : undefined;
  const outs = Array.from({ length: results ?? schema.returns.length }, (_, i) => first + i);
  const graph: Graph = {
    format_version: 1,
    slots: first + outs.length,
    inputs: draw.specs.map((_, slot) => ({ name: `x${slot}`, slot })),
    outputs: outs.map((slot) => ({ name: `y${slot}`, slot })),
    parameters: [],
    nodes: [{ op: schema.name, path: '', args, outs }],
    guards: [],
  };
  const inputs = draw.specs.map(({ dtype, shape }) => `${dtype}[${shape.join()}]`).join(' ');
  return {
    graph,
    inputs: draw.inputs,
    specs: draw.specs,
    text: `${schema.name} seed ${seed} ${JSON.stringify(args)} on ${inputs}`,
  };
}
