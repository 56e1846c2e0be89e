/**
 * One batch norm with what may follow it, as a network of its own (graph_probe.ts).
 */
import type { DType, Mode } from '#fornax/graph/format.js';
import { Buffer, functional as F, Module, Parameter, type Tensor } from '#fornax/nn/index.js';
import { fillInput } from '../conformance/fill.js';
import { runModule, type ProbeResult, type ProbeRun } from './graph_probe.js';

export type Activation =
  'none' | 'relu' | 'relu6' | 'hardtanh' | 'hardtanh_0.7' | 'leaky_relu' | 'silu' | 'hardswish';

const activations: Record<Activation, (x: Tensor) => Tensor> = {
  none: (x) => x,
  relu: F.relu,
  relu6: F.relu6,
  hardtanh: (x) => F.hardtanh(x, -0.5, 0.75),
  'hardtanh_0.7': (x) => F.hardtanh(x, -0.7, 0.7), // bounds that bfloat16 does not have
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
  /** Factor on the input. Default 1. */
  scale?: number;
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
    const moved = values.map((value) => value * (settings.scale ?? 1) + (settings.mean ?? 0.3));
    return settings.input ? truncated(moved) : moved;
  }
  return values;
}

/** Forward and backward, with the same numbers whatever they are computed with. */
export function runProbe(
  settings: ProbeSettings,
  run: Partial<Pick<ProbeRun, 'type' | 'fuse' | 'steps'>> = {},
): Promise<ProbeResult> {
  const { shape, channelsLast = true, threads = 2, mode = 'train' } = settings;
  return runModule((type) => new Probe(settings, type), {
    ...run,
    shape,
    channelsLast,
    threads,
    mode,
    values: (name, count) => valuesOf(name, count, settings),
  });
}
