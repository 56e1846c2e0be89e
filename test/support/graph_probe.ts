/**
 * Operators under test as networks whose inputs are parameters, so that all gradients can be read. Computed as training
 * computes them, by the separate operators, and by those in double precision.
 */
import assert from 'node:assert/strict';
import { trace } from '#fornax/graph/trace.js';
import type { DType, Graph, Mode } from '#fornax/graph/format.js';
import { loadAddon } from '#fornax/native.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { call, Module, type Tensor } from '#fornax/nn/index.js';

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

export interface ProbeRun {
  /** float64 is the reference: the separate operators in double precision. Default float32. */
  type?: DType;
  /** Default true. */
  fuse?: boolean;
  /** Default 1. */
  steps?: number;
  /** Default true. */
  channelsLast?: boolean;
  /** Default 2. */
  threads?: number;
  /** Of batch norm. Default train. */
  mode?: Mode;
  /** The numbers of a parameter, buffer or of `target`, the gradient of the output. */
  values: (name: string, count: number) => Float32Array;
  /** Of the output. */
  shape: readonly number[];
}

/** Forward and backward. */
export async function runModule(build: (type: DType) => Module, run: ProbeRun): Promise<ProbeResult> {
  const { type = 'float32', fuse = true, steps = 1 } = run;
  const { Graph, Tensor, TrainSession } = loadAddon();
  const filled = (name: string, shape: readonly number[]): NativeTensor => {
    const count = shape.reduce((n, d) => n * d, 1);
    const values = run.values(name, count);
    return Tensor.fromTypedArray(type === 'float64' ? Float64Array.from(values) : values, [...shape]);
  };
  const model = new Graph(trace(build(type), { inputs: [[1]] }), { trusted: true });
  const floating = model.state().filter(({ tensor }) => tensor.dtype !== 'int64');
  const entries = Object.fromEntries(floating.map(({ name, tensor }) => [name, filled(name, tensor.shape)]));
  model.loadState(entries, { strict: false });
  const parameters = model.state().filter(({ kind }) => kind === 'parameter');
  const session = new TrainSession(model, {
    device: 'cpu',
    loss: lossGraph(type),
    optimizer: { name: 'sgd' },
    groups: [{ parameters: parameters.map(({ name }) => name), weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0 },
    channels_last: run.channelsLast ?? true,
    fuse: fuse && type !== 'float64',
    threads: run.threads ?? 2,
    modes: { batch_norm: run.mode ?? 'train' },
  });
  const batch = {
    image: Tensor.fromTypedArray(new Float32Array(1), [1]),
    target: filled('target', run.shape),
  };
  let result!: Awaited<ReturnType<typeof session.step>>;
  for (let step = 0; step < steps; step++) result = await session.step(batch, { update: false });
  const gradients = Object.fromEntries(
    Object.entries(session.gradients()).map(([name, tensor]) => [name, numbers(tensor)]),
  );
  session.dispose();
  const kept = model.state().filter(({ kind }) => kind === 'buffer');
  const buffers = Object.fromEntries(kept.map(({ name, tensor }) => [name, numbers(tensor)]));
  return { output: numbers(result.outputs['output']!), gradients, buffers, loss: result.loss };
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

export function assertNear(
  actual: ProbeResult,
  expected: ProbeResult,
  tolerance: number,
  what: string,
): void {
  const compare = (found: Float64Array, wanted: Float64Array, name: string): void => {
    const off = distance(found, wanted);
    assert.ok(off <= tolerance, `${what}: ${name} is off by ${off} of its largest value`);
  };
  compare(actual.output, expected.output, 'output');
  for (const part of ['gradients', 'buffers'] as const) {
    assert.deepEqual(Object.keys(actual[part]), Object.keys(expected[part]));
    for (const [name, values] of Object.entries(expected[part])) {
      compare(actual[part][name]!, values, `${part} ${name}`);
    }
  }
}
