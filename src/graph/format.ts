/**
 * The graph of a model: a flat list of operator calls, as it is handed to the native core and stored in model
 * files. docs/architecture.md describes it; native/graph/graph.h is its C++ side.
 */

/** Version of this format. A reader upgrades older versions and refuses newer ones by name. */
export const GRAPH_FORMAT_VERSION = 1;

export type DType =
  'float32' | 'float64' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'int16' | 'int8' | 'uint8' | 'bool';

/** Kinds of nodes whose behaviour depends on the mode a graph is run in. */
export type ModeKind = 'dropout' | 'batch_norm' | 'stochastic_depth';
/** `recompute` applies to batch norm only. As an operator argument: eval = 0, train = 1, recompute = 2. */
export type Mode = 'eval' | 'train' | 'recompute';

/**
 * An integer expression over sizes, evaluated when the node that uses it runs.
 * A number; `['size', slot, dim]` (dim may be negative); or an operation on two expressions.
 * `//` and `%` round towards minus infinity, as in Python.
 */
export type SizeExpr =
  number | ['size', number, number] | ['+' | '-' | '*' | '//' | '%' | 'min' | 'max', SizeExpr, SizeExpr];

/**
 * One argument of a node, in the order of the operator's schema. Missing trailing arguments take the schema's
 * defaults. Arrays hold only arguments of one sort: a list of slots (null for an absent optional tensor) or a
 * list of integers, floats, booleans and expressions.
 */
export type GraphArg =
  | null
  | boolean
  | number
  | string
  | { slot: number }
  /** Replaced by the integer of the node's mode (see Mode). */
  | { mode: ModeKind }
  | { expr: SizeExpr }
  | { dtype: DType }
  /** Replaced by the generator of the session that runs the graph. */
  | { generator: true }
  | GraphArg[];

export interface GraphNode {
  /** Operator with its overload: `aten::conv2d`, `aten::add.Tensor`, `fornax::dropout`. */
  op: string;
  /** Module path of the module whose forward made this node: `layer1.0.conv1`; '' for the root. */
  path: string;
  args: GraphArg[];
  /** Slots that receive the results, in order; null where a result is not used. A Tensor[] result is unpacked. */
  outs: (number | null)[];
}

/** How a parameter or buffer starts. Drawn natively from the run's seed, in the order of the state dict. */
export type Init =
  | { kind: 'constant'; value: number }
  /** Every element, in row-major order: tables such as Swin's relative positions. */
  | { kind: 'values'; values: number[] }
  | { kind: 'uniform'; low: number; high: number }
  | { kind: 'normal'; mean: number; std: number }
  /** Normal, cut to [a, b] (torch.nn.init.trunc_normal_; a and b are absolute values, default ±2). */
  | { kind: 'trunc_normal'; mean: number; std: number; a: number; b: number }
  /** He et al. 2015. `gain` already contains the nonlinearity's factor (√2 for ReLU). */
  | { kind: 'kaiming_uniform' | 'kaiming_normal'; mode: 'fan_in' | 'fan_out'; gain: number }
  /** Glorot & Bengio 2010. */
  | { kind: 'xavier_uniform' | 'xavier_normal'; gain: number };

export interface GraphParameter {
  /** Name in the state dict: `layer1.0.conv1.weight`. */
  name: string;
  shape: number[];
  dtype: DType;
  /** A parameter is trained; a buffer is not (running statistics). */
  kind: 'parameter' | 'buffer';
  slot: number;
  init: Init;
}

/** A fact about sizes on which tracing relied. Checked as soon as the slots it names are computed. */
export interface GraphGuard {
  left: SizeExpr;
  compare: '==' | '!=' | '<' | '<=' | '>' | '>=';
  right: SizeExpr;
  /** Module path at which the branch was taken. */
  path: string;
}

export interface GraphPort {
  name: string;
  slot: number;
  /** Of an input: the number of dimensions it was traced with; another is refused. Absent: not checked. */
  rank?: number;
  /** Of an output: only training needs it (the auxiliary head of a segmenter). Absent: false. */
  auxiliary?: boolean;
}

export interface Graph {
  format_version: number;
  /** Number of slots; every slot is written exactly once: by an input, a parameter or a node. */
  slots: number;
  inputs: GraphPort[];
  outputs: GraphPort[];
  /** In the order of the state dict. */
  parameters: GraphParameter[];
  /** In execution order: a node uses only slots written before it. */
  nodes: GraphNode[];
  guards: GraphGuard[];
}
