/**
 * The walk over a graph that writes TorchScript: one method `forward`, each node a call of `torch.<operator>`, sizes
 * as `torch.size(x, i)`, tensors of the state as attributes of nested modules, guards as assertions.
 *
 * Names come from graphs that may be untrusted, and libtorch prints attribute names into the archive's own source
 * without quoting them: what is not a plain word is refused, never escaped.
 */
import { GraphError } from '../errors.js';
import type {
  DType,
  Graph,
  GraphArg,
  GraphGuard,
  GraphNode,
  GraphParameter,
  SizeExpr,
} from '../graph/format.js';
import { nodeName } from '../graph/reader.js';
import { forEachSlot, formatExpr } from '../graph/size_expr.js';
import type { OperatorSchema } from '../native/contract.js';

/** Numbers of c10::ScalarType, which is what TorchScript calls a dtype. */
const scalarTypes: Readonly<Record<DType, number>> = {
  uint8: 0,
  int8: 1,
  int16: 2,
  int32: 3,
  int64: 4,
  float16: 5,
  float32: 6,
  float64: 7,
  bool: 11,
  bfloat16: 15,
};

/** Words of Python and of TorchScript's own grammar, and what a module has already. */
const reserved = new Set(
  (
    'False None True and as assert async await break class continue def del elif else except finally for from ' +
    'global if import in is lambda nonlocal not or pass raise return try while with yield ' +
    'print annotate getattr hasattr isinstance inf nan self training forward torch ops CONSTANTS bool int float str'
  ).split(' '),
);

/** Why a part of a name in the state dict cannot be an attribute in TorchScript, or null. */
function faultOfWord(word: string): string | null {
  // RegNet has `block1-0`.
  if (!/^[A-Za-z0-9_-]{1,200}$/.test(word)) return 'holds other characters than letters, digits, _ and -';
  if (reserved.has(word)) return 'is a reserved word';
  if (word.startsWith('__')) return 'begins with __';
  return null;
}

/** `self.layer1`, `getattr(self, "0")`: an attribute on the way to a tensor. */
function attribute(owner: string, word: string): string {
  return /^[A-Za-z_]\w*$/.test(word) ? `${owner}.${word}` : `getattr(${owner}, "${word}")`;
}

/** A string literal. Only printable ASCII: anything else is refused by `checkText`. */
function quoted(text: string): string {
  return `"${text.replace(/[\\"]/g, (character) => `\\${character}`)}"`;
}

function isPrintable(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

function isObject(arg: GraphArg): arg is Exclude<GraphArg, null | boolean | number | string | GraphArg[]> {
  return typeof arg === 'object' && arg !== null && !Array.isArray(arg);
}

function floatLiteral(value: number): string {
  const text = Object.is(value, -0) ? '-0' : String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** The highest slot that a guard reads; −1: none. */
function lastSlot({ left, right }: GraphGuard): number {
  let last = -1;
  for (const expr of [left, right]) forEachSlot(expr, (slot) => (last = Math.max(last, slot)));
  return last;
}

/** How `forward` returns its outputs. */
export type ReturnForm = 'tensor' | 'tuple' | 'dict';

/** One output: the tensor. An array (`output_0`, `output_1`, …): a tuple. An object of tensors: a dictionary. */
export function returnForm(names: readonly string[]): ReturnForm {
  if (names.length === 1) return 'tensor';
  const stem = /^(.*)_0$/.exec(names[0]!)?.[1];
  return stem !== undefined && names.every((name, i) => name === `${stem}_${i}`) ? 'tuple' : 'dict';
}

class Walk {
  private readonly lines: string[] = [];
  /** What stands for a slot. */
  private readonly values = new Map<number, string>();
  private lists = 0;
  private device = '';

  constructor(
    private readonly graph: Graph,
    private readonly schemaOf: (op: string) => OperatorSchema | null,
    private readonly constants: ReadonlySet<string>,
  ) {}

  run(): string {
    const { graph } = this;
    const parameters = graph.inputs.map(({ name, slot }, i) => {
      const plain =
        /^[A-Za-z]\w*$/.test(name) && name.length < 200 && !/^[vl_]\d/.test(name) && !reserved.has(name);
      const taken = [...this.values.values()].includes(name) || name === 'torch';
      this.values.set(slot, plain && !taken ? name : `_${i}`);
      return this.values.get(slot)!;
    });
    this.device = `${parameters[0] ?? 'self'}.device`;
    for (const parameter of graph.parameters) {
      const isConstant = this.constants.has(parameter.name);
      this.values.set(parameter.slot, isConstant ? this.constant(parameter) : this.state(parameter.name));
    }
    for (const { name, slot, rank } of graph.inputs) {
      if (rank === undefined) continue;
      const message = `the input ${quoted(isPrintable(name) ? name : '?').slice(1, -1)} must have ${rank} dimensions`;
      this.lines.push(`assert torch.dim(${this.value(slot)}) == ${rank}, "${message}"`);
    }
    // Slots are numbered in the order in which they are written: a guard can be checked after its last one.
    const waiting = graph.guards.map((guard) => ({ guard, after: lastSlot(guard) }));
    waiting.sort((a, b) => b.after - a.after);
    const emitReady = (written: number): void => {
      while (waiting.length > 0 && waiting.at(-1)!.after <= written) this.emitGuard(waiting.pop()!.guard);
    };
    emitReady(graph.inputs.length + graph.parameters.length - 1);
    for (const [i, node] of graph.nodes.entries()) {
      this.emitNode(node, nodeName(node, i));
      emitReady(Math.max(-1, ...node.outs.filter((slot) => slot !== null)));
    }
    return this.method(parameters);
  }

  private method(parameters: readonly string[]): string {
    const { outputs } = this.graph;
    const form = returnForm(outputs.map(({ name }) => name));
    const results = outputs.map(({ slot }) => this.value(slot));
    const types = { tensor: 'Tensor', dict: 'Dict[str, Tensor]' };
    const type = form === 'tuple' ? `Tuple[${results.map(() => 'Tensor').join(', ')}]` : types[form];
    const result =
      form === 'dict'
        ? `{${outputs.map(({ name }, i) => `${this.text(name, 'the outputs')}: ${results[i]}`).join(', ')}}`
        : results.join(', ');
    const signature = parameters.map((name) => `, ${name}: Tensor`).join('');
    return [
      `def forward(self${signature}) -> ${type}:`,
      ...this.lines.map((line) => `  ${line}`),
      `  return ${result}`,
      '',
    ].join('\n');
  }

  private value(slot: number): string {
    return this.values.get(slot)!;
  }

  /** A literal, which needs no place in the state dict and is on the device of the input. */
  private constant({ slot, dtype, init }: GraphParameter): string {
    if (init.kind !== 'values') throw new GraphError('a constant of the export has no values');
    const values = init.values.map(floatLiteral).join(', ');
    this.lines.push(
      `v${slot} = torch.tensor([${values}], dtype=${scalarTypes[dtype]}, device=${this.device})`,
    );
    return `v${slot}`;
  }

  private state(name: string): string {
    let expression = 'self';
    for (const word of name.split('.')) {
      const fault = faultOfWord(word);
      if (fault !== null) {
        throw new GraphError({
          what: `the name ${JSON.stringify(name)} cannot stand in a TorchScript module: '${word.slice(0, 80)}' ${fault}`,
        });
      }
      expression = attribute(expression, word);
    }
    return expression;
  }

  private emitGuard({ left, compare, right, path }: GraphGuard): void {
    const place = isPrintable(path) && path !== '' ? ` at ${path}` : '';
    const message = `the model was exported for other sizes${place}: ${formatExpr(left)} ${compare} ${formatExpr(right)}`;
    this.lines.push(
      `assert ${this.expression(left)} ${compare} ${this.expression(right)}, ${quoted(message)}`,
    );
  }

  private expression(expr: SizeExpr): string {
    if (typeof expr === 'number') return String(expr);
    if (expr[0] === 'size') return `torch.size(${this.value(expr[1])}, ${expr[2]})`;
    const [operator, left, right] = expr;
    const [a, b] = [this.expression(left), this.expression(right)];
    return operator === 'min' || operator === 'max' ? `${operator}(${a}, ${b})` : `(${a} ${operator} ${b})`;
  }

  private emitNode(node: GraphNode, where: string): void {
    const { op, args, outs } = node;
    const schema = this.schemaOf(op);
    if (schema === null || !op.startsWith('aten::')) {
      throw new GraphError({ what: `TorchScript has no operator '${op}'`, where });
    }
    const given: string[] = [];
    for (const [i, { name, type, default: fallback }] of schema.arguments.entries()) {
      const arg = args[i] ?? null;
      if (arg === null && type === 'Device?') given.push(`${name}=${this.device}`);
      else if (i >= args.length || (arg === null && fallback !== null)) continue;
      // The first by position, the rest by name: together with the types this picks the one overload.
      else given.push((i === 0 ? '' : `${name}=`) + this.argument(arg, type, where));
    }
    const call = `torch.${op.slice('aten::'.length).split('.')[0]}(${given.join(', ')})`;
    const names = outs.map((slot, i) => (slot === null ? `_unused${i}` : `v${slot}`));
    const isList = schema.returns[0] === 'Tensor[]';
    if (isList && outs.length === 1) this.lines.push(`${names[0]} = ${call}[0]`);
    else this.lines.push(`${names.join(', ')} = ${call}`);
    for (const slot of outs) if (slot !== null) this.values.set(slot, `v${slot}`);
  }

  private argument(arg: GraphArg, type: string, where: string): string {
    if (type.endsWith('?')) return arg === null ? 'None' : this.argument(arg, type.slice(0, -1), where);
    if (type.endsWith('[]')) return this.list(arg, type.slice(0, -2), where);
    if (isObject(arg) && 'slot' in arg && type === 'Tensor') return this.value(arg.slot);
    if (isObject(arg) && 'expr' in arg) return this.expression(arg.expr);
    if (isObject(arg) && 'dtype' in arg) return String(scalarTypes[arg.dtype]);
    if (typeof arg === 'boolean') return arg ? 'True' : 'False';
    if (typeof arg === 'string' && type === 'str') return this.text(arg, where);
    if (typeof arg === 'number') {
      // As the executor reads numbers: whole ones are integers where the schema leaves it open.
      const whole = Number.isSafeInteger(arg) && Math.abs(arg) < 9e15;
      return type === 'float' || !whole ? floatLiteral(arg) : String(arg);
    }
    throw new GraphError({ what: `TorchScript cannot be given this argument of type ${type}`, where });
  }

  private list(arg: GraphArg, type: string, where: string): string {
    // A single number for a list of a fixed length: TorchScript repeats it as the executor does.
    if (!Array.isArray(arg)) return this.argument(arg, type, where);
    const items = arg.map((item) => this.argument(item, type, where)).join(', ');
    if (arg.length > 0 && type !== 'Tensor?') return `[${items}]`;
    // Literals that do not say their type: it stands at a variable.
    const types: Record<string, string> = {
      SymInt: 'int',
      Scalar: 'number',
      'Tensor?': 'Optional[Tensor]',
    };
    const name = `l${this.lists++}`;
    this.lines.push(`${name} : List[${types[type] ?? type}] = [${items}]`);
    return name;
  }

  private text(value: string, where: string): string {
    if (isPrintable(value)) return quoted(value);
    throw new GraphError({
      what: `TorchScript takes only ASCII here, not ${JSON.stringify(value.slice(0, 80))}`,
      where,
    });
  }
}

/**
 * TorchScript for the method `forward` of a lowered graph.
 *
 * @param schemaOf looks an operator up in the libtorch at hand.
 * @param constants names of parameters that are written as numbers, because they do not belong to the state dict.
 * @throws GraphError saying what TorchScript cannot hold, and where.
 */
export function torchScriptSource(
  graph: Graph,
  schemaOf: (op: string) => OperatorSchema | null,
  constants: ReadonlySet<string> = new Set(),
): string {
  return new Walk(graph, schemaOf, constants).run();
}
