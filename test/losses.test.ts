/**
 * Losses: spoilt copies of their golden file (conformance_golden.test.ts runs the file), what does not count, and bad
 * options.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ArgumentError, ExecutionError } from '#fornax/errors.js';
import type { Graph } from '#fornax/graph/format.js';
import * as losses from '#fornax/losses/index.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { conform, spoilt, type Json } from './support/golden.js';

const changes: Record<string, [string, (golden: Json, one: Json) => void]> = {
  'the loss': ['dice', (_, c) => (c.loss *= 1 + 2e-5)],
  'the norm of the gradient': ['lovasz', (_, c) => (c.grad.norm *= 1 + 2e-5)],
  'an element of the gradient': ['jaccard', (_, c) => (c.grad.first8[3] += 2e-5 * c.grad.norm)],
  'a temperature': ['distillation', (_, c) => (c.definition = c.definition.replace('4.0', '3.0'))],
  'a gamma': ['focal_multiclass', (_, c) => (c.definition = c.definition.replace('2.0', '1.5'))],
  'a smoothing': ['cross_entropy_smoothing', (_, c) => (c.definition = 'label smoothing 0.2')],
  'another definition': ['mse', (_, c) => (c.definition = 'sum; targets as cross_entropy_soft')],
  'other weights': [
    'bce_pos_weight',
    ({ cases }) =>
      (cases.cross_entropy_weight.definition = 'class weights w = 1 + 1.5 v(c, 8005), weighted mean'),
  ],
  'other scores': ['cross_entropy', ({ data }) => (data.logits = data.logits.replace('6 v', '5 v'))],
  'other targets': ['cross_entropy', ({ data }) => (data.targets = data.targets.replace('8003', '8002'))],
  'other ignored pixels': ['dice_ignore', ({ data }) => (data.mask_ignore = 'v(j,8017+0) < 0.25 -> 255')],
  'a field that nobody knows': ['tversky', (_, c) => (c.grad.sum = 0)],
};

for (const [what, [name, change]] of Object.entries(changes)) {
  test(`the runner notices in a file of losses: ${what}`, async () => {
    const file = spoilt('losses.json', (golden) => change(golden, golden.cases[name]));
    const { failed, lines } = await conform(file, [name]);
    assert.equal(failed, 1, lines.join('\n'));
  });
}

test('ordinals are shifted by what the file says, and its formulas must agree with it', async () => {
  const shifted = (golden: Json): void => {
    golden.ordinals_plus = 5;
    for (const [key, text] of Object.entries(golden.data as Record<string, string>)) {
      golden.data[key] = text.replaceAll('+0', '+5');
    }
  };
  const all = await conform(spoilt('losses.json', shifted));
  // Other data, so that every case misses its loss (and none is malformed).
  assert.deepEqual([all.passed, all.failed], [0, 20]);
  assert.ok(all.lines.some((line) => /^ {4}loss: [\d.]+, expected/.test(line)));
  const half = await conform(
    spoilt('losses.json', (golden) => (golden.ordinals_plus = 5)),
    ['dice'],
  );
  assert.match(half.lines[0]!, /adds 0, the file 5/);
});

/** The value of a loss for scores and a target. */
async function valueOf(loss: Graph, output: NativeTensor, target: NativeTensor): Promise<number> {
  const { Graph: NativeGraph, InferenceSession } = loadAddon();
  const graph = new NativeGraph(loss, { trusted: true });
  const session = new InferenceSession(graph, {});
  try {
    const [first, second] = loss.inputs.map(({ name }) => name);
    const results = await session.forward({ [first!]: output, [second!]: target });
    return Number(results['loss']!.toTypedArray()[0]);
  } finally {
    session.dispose();
    graph.dispose();
  }
}

const floats = (values: number[], shape: number[]): NativeTensor =>
  loadAddon().Tensor.fromTypedArray(Float32Array.from(values), shape);
const longs = (values: number[], shape: number[]): NativeTensor =>
  loadAddon().Tensor.fromTypedArray(BigInt64Array.from(values, BigInt), shape);

describe('what does not count', () => {
  // Two images of two pixels, two classes; the last pixel of each is ignored.
  const scores = (ignored: number): NativeTensor =>
    floats([2, ignored, -1, 3, 0.5, -ignored, 1, 0], [2, 2, 2]);
  const mask = longs([0, 255, 1, 255], [2, 2]);
  const ignoreIndex = 255;
  const graphs: Record<string, Graph> = {
    'cross entropy': losses.crossEntropy({ ignoreIndex }, 'mask'),
    'binary cross entropy': losses.binaryCrossEntropy({ mode: 'multiclass', ignoreIndex }, 'mask'),
    focal: losses.focal({ ignoreIndex }, 'mask'),
    dice: losses.dice({ ignoreIndex }),
    jaccard: losses.jaccard({ ignoreIndex }),
    tversky: losses.tversky({ ignoreIndex, alpha: 0.3, beta: 0.7 }),
    lovasz: losses.lovasz({ ignoreIndex }),
    'lovasz per image': losses.lovasz({ ignoreIndex, perImage: true }),
  };
  for (const [name, graph] of Object.entries(graphs)) {
    test(`has no influence on ${name}`, async () => {
      const kept = await valueOf(graph, floats([2, -1, 0.5, 1], [2, 2, 1]), longs([0, 1], [2, 1]));
      for (const ignored of [-7, 0, 5]) {
        const value = await valueOf(graph, scores(ignored), mask);
        assert.ok(Math.abs(value - kept) < 1e-6, `${value}, without the ignored pixels ${kept}`);
      }
    });
  }

  test('leaves a loss of 0 where nothing counts', async () => {
    const nothing = longs([255, 255, 255, 255], [2, 2]);
    for (const name of ['binary cross entropy', 'focal', 'dice', 'jaccard', 'tversky', 'lovasz']) {
      assert.equal(await valueOf(graphs[name]!, scores(1), nothing), 0, name);
    }
  });
});

describe('targets', () => {
  test('of a class that does not exist are refused', async () => {
    for (const graph of [losses.dice(), losses.lovasz(), losses.focal({}, 'mask')]) {
      await assert.rejects(
        valueOf(graph, floats([1, 2, 3, 4], [1, 2, 2]), longs([0, 2], [1, 2])),
        ExecutionError,
      );
    }
  });

  test('of yes or no may have a dimension of one class or not', async () => {
    const output = floats([1, -2, 0.5, 3], [1, 1, 2, 2]);
    for (const graph of [losses.dice({ mode: 'binary' }), losses.lovasz({ mode: 'binary' })]) {
      const with1 = await valueOf(graph, output, longs([1, 0, 0, 1], [1, 1, 2, 2]));
      assert.equal(await valueOf(graph, output, longs([1, 0, 0, 1], [1, 2, 2])), with1);
    }
  });

  test('of one class are its one-hot form to losses of yes or no', async () => {
    const output = floats([1, -2, 0.5, 3, 0, -1], [2, 3]);
    const oneHot = floats([0, 0, 1, 1, 0, 0], [2, 3]);
    const settings = { posWeight: [1, 2, 3], labelSmoothing: 0.1 };
    const byLabel = losses.binaryCrossEntropy({ ...settings, mode: 'multiclass' });
    assert.equal(
      await valueOf(byLabel, output, longs([2, 0], [2])),
      await valueOf(losses.binaryCrossEntropy(settings), output, oneHot),
    );
  });
});

test('the Lovász hinge is one minus the Jaccard index of the signs where every margin is reached', async () => {
  // Errors are 0 (right by a margin of 1) or 2 (wrong by 1), so that the loss is twice the Jaccard loss.
  const output = floats([1, 1, -1, -1], [1, 1, 2, 2]);
  const value = await valueOf(losses.lovasz({ mode: 'binary' }), output, longs([1, 0, 1, 0], [1, 2, 2]));
  assert.ok(Math.abs(value - 2 * (1 - 1 / 3)) < 1e-6, String(value));
});

test('options out of their range are refused', () => {
  const bad: (() => Graph)[] = [
    () => losses.crossEntropy({ labelSmoothing: -0.1 }),
    () => losses.crossEntropy({ classWeights: [] }),
    () => losses.binaryCrossEntropy({ posWeight: [1, NaN] }),
    () => losses.focal({ alpha: 1.5 }),
    () => losses.focal({ gamma: -1 }),
    () => losses.dice({ smooth: -1 }),
    () => losses.tversky({ beta: Infinity }),
    () => losses.smoothL1({ beta: -1 }),
    () => losses.distillation({ temperature: 0 }),
  ];
  for (const make of bad) assert.throws(make, ArgumentError);
});
