/** The mobile families: what their options change. conformance_golden.test.ts compares what they compute. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ArgumentError } from '#fornax/errors.js';
import type { Graph, GraphNode } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { Model } from '#fornax/model.js';
import { makeDivisible } from '#fornax/models/blocks.js';
import { createModule } from '#fornax/models/registry.js';
import { Tensor } from '#fornax/tensor.js';

function graphOf(name: string, options: Record<string, unknown> = {}): Graph {
  return trace(createModule(name, options), { inputs: [[1, 3, 224, 224]] });
}

function parameters(name: string, options: Record<string, unknown> = {}): number {
  const counts = [...createModule(name, options).parameters()].map(({ dims }) =>
    dims.reduce((product, size) => product * size, 1),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

const nodes = (name: string, op: string): GraphNode[] => graphOf(name).nodes.filter((node) => node.op === op);

describe('width', () => {
  // Of torchvision 0.29 with width_mult.
  const published: [string, number, number][] = [
    ['mobilenet_v2', 1.4, 6_108_776],
    ['mobilenet_v2', 0.5, 1_968_680],
    ['mobilenet_v3_small', 0.75, 1_653_920],
    ['mobilenet_v3_large', 1.25, 8_164_744],
  ];
  for (const [name, width, count] of published) {
    it(`${width} gives ${name} ${count} parameters`, () => {
      assert.equal(parameters(name, { width }), count);
    });
  }

  it('rounds to multiples of 8, never down by more than a tenth', () => {
    assert.deepEqual(
      [8, 11, 12, 19, 20, 36, 44, 3].map((value) => makeDivisible(value, 8)),
      [8, 16, 16, 24, 24, 40, 48, 8],
    );
    for (let value = 8; value < 500; value += 0.7) assert.ok(makeDivisible(value, 8) >= 0.9 * value);
  });
});

describe('outputStride 16 of MobileNetV3', () => {
  for (const name of ['mobilenet_v3_small', 'mobilenet_v3_large']) {
    it(`gives ${name} features at a sixteenth of the image, with the same weights`, async () => {
      const shapes: number[][] = [];
      const names: string[][] = [];
      for (const outputStride of [32, 16]) {
        using model = Model.create(name, { options: { outputStride }, inputs: [[1, 3, 64, 96]] });
        const { features } = await model.forward(Tensor.zeros([1, 3, 64, 96]), { taps: ['features'] });
        shapes.push(features!.shape.slice(2));
        names.push(model.state().map((entry) => entry.name));
      }
      assert.deepEqual(shapes, [
        [2, 3],
        [4, 6],
      ]);
      assert.deepEqual(names[0], names[1]);
    });
  }

  it('is 16 or 32', () => {
    // @ts-expect-error -- the compiler knows it too
    assert.throws(() => createModule('mobilenet_v3_large', { outputStride: 8 }), ArgumentError);
  });
});

describe('dropping', () => {
  it('of branches grows linearly over the blocks of EfficientNet', () => {
    const drops = nodes('efficientnet_b0', 'fornax::stochastic_depth').map(
      ({ path, args }) => [path, args[1] as number] as const,
    );
    // 16 blocks, of which 9 have a shortcut: all but the first of a stage.
    assert.equal(drops.length, 9);
    assert.deepEqual(drops[0]![0], 'features.2.1.stochastic_depth');
    const expected = [2, 4, 6, 7, 9, 10, 12, 13, 14].map((block) => (0.2 * block) / 16);
    drops.forEach(([path, p], i) => assert.ok(Math.abs(p - expected[i]!) < 1e-12, `${path}: ${p}`));
  });

  it('before the classifier is as published', () => {
    const published = { efficientnet_b0: 0.2, efficientnet_b7: 0.5, efficientnet_v2_l: 0.4, mnasnet0_5: 0.2 };
    for (const [name, p] of Object.entries(published)) {
      assert.equal(nodes(name, 'fornax::dropout').at(-1)!.args[1], p, name);
    }
  });

  it('can be turned off', () => {
    const graph = graphOf('efficientnet_b0', { dropout: 0, stochasticDepth: 0 });
    assert.ok(!graph.nodes.some(({ op }) => op === 'fornax::dropout' || op === 'fornax::stochastic_depth'));
  });
});

it('batch norm has the momentum and eps of the published training', () => {
  const published: Record<string, [number, number]> = {
    mobilenet_v2: [0.1, 1e-5],
    mobilenet_v3_small: [0.01, 1e-3],
    efficientnet_b4: [0.1, 1e-5],
    efficientnet_b5: [0.01, 1e-3],
    efficientnet_v2_m: [0.1, 1e-3],
    mnasnet1_3: [1 - 0.9997, 1e-5],
    regnet_x_800mf: [0.1, 1e-5],
  };
  for (const [name, settings] of Object.entries(published)) {
    for (const { args } of nodes(name, 'fornax::batch_norm'))
      assert.deepEqual(args.slice(-2), settings, name);
  }
});
