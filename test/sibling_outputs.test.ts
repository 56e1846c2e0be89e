/**
 * What architectures compute that the golden file leaves out, and some with options: outputs in eval mode, and loss,
 * gradients and running statistics of one training step, as their origins' own code has them.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { trace } from '#fornax/graph/trace.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { createModule } from '#fornax/models/registry.js';
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { fillInput, fillModel } from './conformance/fill.js';

interface Case {
  name: string;
  resolution: number;
  options?: Record<string, unknown>;
  conv_gain?: number;
  /** By output: the unbiased standard deviation of all values, and the first ones. */
  eval: Record<string, { std: number; at: number[] }>;
  train?: { loss: number; grad_norm: number; last_running_mean: [name: string, first: number[]] | null };
  /** Relative deviations of PyTorch's float32 from its float64. */
  dev: Partial<Record<'eval' | 'loss' | 'grad_norm' | 'running_mean', number>>;
}

const { models } = JSON.parse(
  readFileSync(new URL('../../../test/fixtures/sibling_outputs.json', import.meta.url), 'utf8'),
) as { models: Case[] };

/** The tolerances of the golden file: a floor for each figure, and five times PyTorch's own deviation. */
function tolerance(floor: number, dev = 0): number {
  return Math.max(floor, 5 * dev);
}

function image(shape: number[], t: number): NativeTensor {
  const count = shape.reduce((product, length) => product * length, 1);
  return loadAddon().Tensor.fromTypedArray(fillInput(count, t), shape);
}

async function checkEval(model: NativeGraph, expected: Case): Promise<void> {
  const side = expected.resolution;
  const session = new (loadAddon().InferenceSession)(model, {});
  const outputs = await session.forward(
    { image: image([1, 3, side, side], 999983) },
    { outputs: Object.keys(expected.eval) },
  );
  for (const [name, { std, at }] of Object.entries(expected.eval)) {
    const values = outputs[name]!.toTypedArray() as Float32Array;
    const limit = tolerance(1e-3, expected.dev.eval) * std;
    for (const [i, value] of at.entries()) {
      assert.ok(Math.abs(values[i]! - value) <= limit, `${name}[${i}]: ${values[i]} is not ${value}`);
    }
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
    assert.ok(Math.abs(Math.sqrt(squares / (values.length - 1)) - std) <= limit, `std of ${name}`);
  }
  session.dispose();
}

async function checkTrain(
  model: NativeGraph,
  { resolution, dev }: Case,
  expected: NonNullable<Case['train']>,
): Promise<void> {
  const { TrainSession, Tensor } = loadAddon();
  const state = model.state();
  const parameters = state.filter(({ kind }) => kind === 'parameter').map(({ name }) => name);
  const session = new TrainSession(model, {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'sgd' },
    groups: [{ parameters, weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0 },
    modes: { dropout: 'eval', stochastic_depth: 'eval', batch_norm: 'train' },
  });
  const batch = {
    image: image([4, 3, resolution, resolution], 999979),
    label: Tensor.fromTypedArray(BigInt64Array.of(1n, 3n, 4n, 7n), [4]),
  };
  const { loss } = await session.step(batch, { update: false });
  const close = (actual: number, value: number, limit: number, what: string): void =>
    assert.ok(Math.abs(actual - value) <= limit * Math.abs(value), `${what}: ${actual} is not ${value}`);
  close(loss, expected.loss, tolerance(1e-4, dev.loss), 'loss');
  let squares = 0;
  for (const gradient of Object.values(session.gradients())) {
    for (const x of gradient.toTypedArray() as Float32Array) squares += x * x;
    gradient.dispose();
  }
  close(Math.sqrt(squares), expected.grad_norm, tolerance(1e-2, dev.grad_norm), 'norm of the gradients');
  session.dispose();
  const last = state.filter(({ name }) => name.endsWith('running_mean')).at(-1);
  assert.equal(last?.name, expected.last_running_mean?.[0]);
  if (last === undefined) return;
  const [, first] = expected.last_running_mean!;
  const values = last.tensor.toTypedArray() as Float32Array;
  const limit = tolerance(1e-3, dev.running_mean) * Math.max(...first.map(Math.abs));
  for (const [i, value] of first.entries()) {
    assert.ok(Math.abs(values[i]! - value) <= limit, `${last.name}[${i}]: ${values[i]} is not ${value}`);
  }
}

describe('siblings of the golden architectures', () => {
  for (const expected of models) {
    const { name, options = {}, resolution, conv_gain: convGain = 1 } = expected;
    it(`${[name, ...Object.keys(options)].join(' with ')} computes what its origin does`, async () => {
      const module = createModule(name, { numClasses: 10, ...options });
      const graph = trace(module, { inputs: [[4, 3, resolution, resolution]] });
      const model = new (loadAddon().Graph)(graph, { trusted: true });
      fillModel(model, { convGain });
      await checkEval(model, expected);
      if (expected.train) await checkTrain(model, expected, expected.train);
      model.dispose();
    });
  }
});
