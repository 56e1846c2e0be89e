/**
 * One batch norm with what may follow it, as a network of its own whose input is a parameter: so its gradient can be
 * read, too. Computed fused, by the separate operators, and by those in double precision.
 */
import { trace } from '#fornax/graph/trace.js';
import type { DType, Graph, Mode } from '#fornax/graph/format.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { Buffer, call, functional as F, Module, Parameter, type Tensor } from '#fornax/nn/index.js';
import { fillInput } from '../conformance/fill.js';

export type Activation = 'none' | 'relu' | 'relu6' | 'hardtanh' | 'leaky_relu' | 'silu' | 'hardswish';

const activations: Record<Activation, (x: Tensor) => Tensor> = {
  none: (x) => x,
  relu: F.relu,
  relu6: F.relu6,
  hardtanh: (x) => F.hardtanh(x, -0.5, 0.75),
  leaky_relu: (x) => F.leakyRelu(x, 0.1),
  silu: F.silu,
  hardswish: F.hardswish,
};

export interface ProbeSettings {
  shape: readonly number[];
  activation?: Activation;
  /** The residual is the first or the second operand of the addition. */
  residual?: 'first' | 'second';
  affine?: boolean;
  tracked?: boolean;
  momentum?: number | null;
  /** Types of the batch norm's input and, by a conversion that follows, of the result. Default float32. */
  input?: 'bfloat16';
  result?: DType;
  mode?: Mode;
  /** Mean of the input against its standard deviation, 1. Default 0.3. */
  mean?: number;
  channelsLast?: boolean;
  threads?: number;
}

export class Probe extends Module {
  readonly x: Parameter;
  readonly residual: Parameter | null;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly running_mean: Buffer | null;
  readonly running_var: Buffer | null;
  readonly num_batches_tracked: Buffer | null;

  constructor(
    private readonly settings: ProbeSettings,
    private readonly type: DType,
  ) {
    super();
    const { shape, residual, affine = true, tracked = true } = settings;
    const channels = [shape[1]!];
    const zero = { kind: 'constant', value: 0 } as const;
    this.x = new Parameter(shape, zero, type);
    this.residual = residual ? new Parameter(shape, zero, type) : null;
    this.weight = affine ? new Parameter(channels, zero, type) : null;
    this.bias = affine ? new Parameter(channels, zero, type) : null;
    this.running_mean = tracked ? new Buffer(channels, zero, type) : null;
    this.running_var = tracked ? new Buffer(channels, zero, type) : null;
    this.num_batches_tracked = tracked ? new Buffer([], zero, 'int64') : null;
  }

  forward(_image: Tensor): Tensor {
    const { activation = 'none', residual, momentum = 0.1, input, result } = this.settings;
    const double = this.type === 'float64';
    const state = {
      weight: this.weight,
      bias: this.bias,
      runningMean: this.running_mean,
      runningVar: this.running_var,
      numBatchesTracked: this.num_batches_tracked,
    };
    // In double precision the values alone are rounded, see valuesOf().
    const x = input && !double ? this.x.to(input) : this.x;
    let y = F.batchNorm(x, state, { momentum, eps: 1e-3 });
    if (residual === 'first') y = this.residual!.add(y);
    if (residual === 'second') y = y.add(this.residual!);
    y = activations[activation](y);
    return result && !double ? y.to(result) : y;
  }
}

/** Σ output · target: the gradient of the output is the target. */
class Product extends Module {
  constructor(private readonly type: DType) {
    super();
  }

  forward(output: Tensor, target: Tensor): { loss: Tensor } {
    return { loss: call('aten::sum', [output.to(this.type).mul(target)]) };
  }
}

function lossGraph(type: DType): Graph {
  const inputs = ['output', 'target'].map((name) => ({ name, shape: null, dtype: type }));
  return trace(new Product(type), { inputs });
}

const truncated = (values: Float32Array): Float32Array => {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = bits[i]! & 0xffff0000;
  return values;
};

/** The numbers of an entry, the same whatever they are computed with. */
function valuesOf(name: string, count: number, settings: ProbeSettings): Float32Array {
  const values = fillInput(count, name.length * 1000 + count);
  if (name === 'running_var') return values.map((value) => 1.5 + 0.5 * Math.sin(value));
  if (name === 'weight') return values.map((value) => 1 + 0.3 * value);
  if (name === 'x') {
    const moved = values.map((value) => value + (settings.mean ?? 0.3));
    return settings.input ? truncated(moved) : moved;
  }
  return values;
}

export interface ProbeResult {
  output: Float64Array;
  gradients: Record<string, Float64Array>;
  buffers: Record<string, Float64Array>;
  loss: number;
}

const numbers = (tensor: NativeTensor): Float64Array =>
  Float64Array.from(
    (tensor.dtype === 'bfloat16' ? tensor.to({ dtype: 'float32' }) : tensor).toTypedArray() as Float32Array,
    Number,
  );

/** Forward and backward once. `type` float64 is the reference: the separate operators in double precision. */
export async function runProbe(
  settings: ProbeSettings,
  { type = 'float32', fuse = true, steps = 1 }: { type?: DType; fuse?: boolean; steps?: number } = {},
): Promise<ProbeResult> {
  const { Graph, Tensor, TrainSession } = loadAddon();
  const filled = (name: string, shape: readonly number[]): NativeTensor => {
    const values = valuesOf(name, shape.reduce((n, d) => n * d, 1), settings); // prettier-ignore
    return Tensor.fromTypedArray(type === 'float64' ? Float64Array.from(values) : values, [...shape]);
  };
  const model = new Graph(trace(new Probe(settings, type), { inputs: [[1]] }), { trusted: true });
  const entries = model.state().filter(({ tensor }) => tensor.dtype !== 'int64');
  model.loadState(Object.fromEntries(entries.map(({ name, tensor }) => [name, filled(name, tensor.shape)])), {
    strict: false,
  });
  const parameters = model.state().filter(({ kind }) => kind === 'parameter').map(({ name }) => name); // prettier-ignore
  const session = new TrainSession(model, {
    device: 'cpu',
    loss: lossGraph(type),
    optimizer: { name: 'sgd' },
    groups: [{ parameters, weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0 },
    channels_last: settings.channelsLast ?? true,
    fuse: fuse && type !== 'float64',
    threads: settings.threads ?? 2,
    modes: { batch_norm: settings.mode ?? 'train' },
  });
  const batch = { image: Tensor.fromTypedArray(new Float32Array(1), [1]), target: filled('target', settings.shape) };
  let loss = 0;
  let output!: NativeTensor;
  for (let step = 0; step < steps; step++) {
    const result = await session.step(batch, { update: false });
    loss = result.loss;
    output = result.outputs['output']!;
  }
  const gradients = Object.fromEntries(
    Object.entries(session.gradients()).map(([name, tensor]) => [name, numbers(tensor)]),
  );
  session.dispose();
  const buffers = Object.fromEntries(
    model.state().filter(({ kind }) => kind === 'buffer').map(({ name, tensor }) => [name, numbers(tensor)]), // prettier-ignore
  );
  return { output: numbers(output), gradients, buffers, loss };
}

/** Largest difference, relative to the largest value of `expected`. */
export function distance(actual: Float64Array, expected: Float64Array): number {
  let difference = 0;
  let largest = 1e-30;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i]! - expected[i]!));
    if (Number.isNaN(actual[i]! - expected[i]!)) return NaN;
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return actual.length === expected.length ? difference / largest : NaN;
}
