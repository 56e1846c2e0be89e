/** Which parameters learn how fast: layers by depth, the head's rate, groups by name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import { layersOf } from '#fornax/graph/layers.js';
import type { Graph } from '#fornax/graph/format.js';
import { trace } from '#fornax/graph/trace.js';
import { mse } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { architectures, createModule } from '#fornax/models/registry.js';
import { loadAddon } from '#fornax/native.js';
import { describeGroups, frozenPaths, parameterGroups } from '#fornax/train/parameter_groups.js';

import { stateValues } from './support/training_golden.js';

function graphOf(name: string, side: number): Graph {
  const inputs = [{ name: 'image', shape: [2, 3, side, side], dtype: 'float32' as const }];
  return trace(createModule(name, { numClasses: 10 }), { inputs });
}

function settings(train: NonNullable<Parameters<typeof defineConfig>[0]['train']>) {
  return defineConfig({ train, data: { source: 'shapes' } }).train;
}

/** Numbers in each layer of timm 1.0.19: `group_parameters(model, model.group_matcher(coarse=False), reverse=True)`. */
const timm: Record<string, number[]> = {
  vit_b_16: [742656, ...Array<number>(11).fill(7087872), 7089408, 7690],
  resnet18: [9536, 73984, 73984, 230144, 295424, 919040, 1180672, 3673088, 4720640, 5130],
  swin_t: [
    4896, 112347, 112347, 520374, 445878, 2072940, 1776492, 1776492, 1776492, 1776492, 1776492, 8274648,
    7093464, 7690,
  ],
};

test('layers are timm’s', () => {
  for (const [name, expected] of Object.entries(timm)) {
    const graph = graphOf(name, 224);
    const { of, count } = layersOf(graph);
    const sizes = Array<number>(count).fill(0);
    for (const { name: parameter, kind, shape } of graph.parameters) {
      if (kind === 'parameter') sizes[of.get(parameter)!]! += shape.reduce((a, b) => a * b, 1);
    }
    assert.deepEqual(sizes, expected, name);
  }
});

test('every architecture has layers in the order of its depth and a head', () => {
  // One of each family; the larger ones differ in numbers alone.
  const families = [
    ...new Map([...architectures].reverse().map((each) => [each.name.split(/[_\d]/)[0]!, each])).values(),
  ];
  assert.ok(families.length > 15);
  for (const { name, defaultResolution } of families) {
    const graph = graphOf(name, defaultResolution);
    const { of, count, head } = layersOf(graph);
    const parameters = graph.parameters.filter(({ kind }) => kind === 'parameter');
    assert.deepEqual([...of.keys()].sort(), parameters.map((p) => p.name).sort(), name);
    assert.equal(new Set(of.values()).size, count, `${name}: no layer is empty`);
    assert.ok(head.size > 0 && [...head].every((p) => of.get(p) === count - 1), name);
    assert.equal(of.get(parameters[0]!.name), 0, `${name}: the first parameter is in the first layer`);
  }
});

test('rates fall with the distance from the head', () => {
  const graph = graphOf('resnet18', 64);
  const scales = (train: Parameters<typeof settings>[0]): Map<string, number> =>
    new Map(
      parameterGroups(graph, settings(train)).flatMap(({ parameters, lr_scale = 1 }) =>
        parameters.map((name) => [name, lr_scale] as const),
      ),
    );
  const decayed = scales({ layerDecay: 0.5 });
  assert.equal(decayed.get('fc.weight'), 1);
  assert.equal(decayed.get('layer4.1.conv2.weight'), 0.5);
  assert.equal(decayed.get('layer4.0.downsample.0.weight'), 0.25);
  assert.equal(decayed.get('conv1.weight'), 0.5 ** 9);
  const head = scales({ lr: 0.01, headLr: 0.1 });
  assert.ok(Math.abs(head.get('fc.bias')! - 10) < 1e-12);
  assert.equal(head.get('conv1.weight'), 1);
  assert.deepEqual(scales({ headLr: '10x', layerDecay: 0.5 }).get('fc.bias'), 10);
});

test('groups override rate, decay and frozen; the last one counts', () => {
  const graph = graphOf('resnet18', 64);
  const train = settings({
    weightDecay: 0.1,
    decayNormAndBias: false,
    frozen: ['layer1'],
    groups: [
      { match: 'layer4', lrScale: 3, weightDecay: 0.5 },
      { match: ['layer4.*.weight'], lrScale: 2 },
      { match: 'layer1.1', frozen: false },
      { match: ['conv1', 'bn1'], frozen: true },
    ],
  });
  const groups = parameterGroups(graph, train);
  const groupOf = (name: string) => groups.find(({ parameters }) => parameters.includes(name));
  assert.deepEqual(
    ['layer4.0.conv1.weight', 'layer4.0.bn1.bias', 'layer3.0.bn1.bias', 'layer3.0.conv1.weight'].map(
      (name) => {
        const { lr_scale = 1, weight_decay } = groupOf(name)!;
        return [lr_scale, weight_decay];
      },
    ),
    [
      [2, 0.5],
      [3, 0.5],
      [1, 0],
      [1, 0.1],
    ],
  );
  assert.equal(groupOf('conv1.weight'), undefined);
  assert.equal(groupOf('layer1.0.conv1.weight'), undefined);
  assert.ok(groupOf('layer1.1.conv1.weight'));
  assert.deepEqual(frozenPaths(graph, train), ['bn1', 'layer1.0.bn1', 'layer1.0.bn2']);
  const table = describeGroups(graph, train)!;
  assert.match(table, /lr +decay +tensors +parameters +where/);
  assert.match(table, /frozen .* 9 .*conv1/);
  assert.equal(describeGroups(graph, settings({})), null);
});

test('a path that matches nothing is an error with the nearest one', () => {
  const graph = graphOf('resnet18', 64);
  const attempt = (train: Parameters<typeof settings>[0]) => () => parameterGroups(graph, settings(train));
  assert.throws(attempt({ groups: [{ match: 'layer5', lrScale: 2 }] }), {
    name: 'ConfigError',
    message: /no module or parameter 'layer5'.*train\.groups\[0\]\.match.*did you mean 'layer\d'/s,
  });
  assert.throws(
    attempt({
      groups: [
        { match: 'conv1', lrScale: 2 },
        { match: ['fc', '*.bogus'], frozen: true },
      ],
    }),
    {
      message: /no parameter of the model fits '\*\.bogus'.*train\.groups\[1\]/s,
    },
  );
  assert.throws(attempt({ groups: [{ match: '*', frozen: true }] }), /no parameter is left to train/);
  assert.throws(() => settings({ headLr: '10 x' }), /factor such as 10x/);
});

test('each parameter moves at its own rate and decay', async () => {
  using model = Model.create('tiny_cnn', { seed: 1, numClasses: 3, inputs: [[2, 3, 16, 16]] });
  const train = settings({
    lr: 0.1,
    weightDecay: 0.01,
    decayNormAndBias: false,
    layerDecay: 0.5,
    headLr: '4x',
    groups: [{ match: '*.bias', lrScale: 0 }],
  });
  const groups = parameterGroups(model.graph, train);
  const { TrainSession, Tensor } = loadAddon();
  const session = new TrainSession(model.native, {
    device: 'cpu',
    loss: mse(),
    optimizer: { name: 'sgd', momentum: 0.9 },
    groups,
    schedule: { name: 'constant', lr: 0.1 },
    channels_last: false,
  });
  const expected = stateValues(model.native);
  const momenta = new Map<string, Float32Array>();
  const random = (size: number, seed: number) =>
    Float32Array.from({ length: size }, (_, i) => Math.sin(i * 12.9898 + seed));
  for (let step = 0; step < 3; step++) {
    const image = Tensor.fromTypedArray(random(2 * 3 * 256, step), [2, 3, 16, 16]);
    const target = Tensor.fromTypedArray(random(6, 7 * step), [2, 3]);
    const { outputs } = await session.step({ image, target });
    for (const tensor of [image, target, ...Object.values(outputs)]) tensor.dispose();
    for (const [name, gradient] of Object.entries(session.gradients())) {
      const { lr_scale = 1, weight_decay } = groups.find(({ parameters }) => parameters.includes(name))!;
      const values = expected[name]!;
      const momentum = momenta.get(name) ?? new Float32Array(values.length);
      // torch.optim.SGD
      (gradient.toTypedArray() as Float32Array).forEach((g, i) => {
        const d = g + weight_decay * values[i]!;
        momentum[i] = step === 0 ? d : 0.9 * momentum[i]! + d;
        values[i] = values[i]! - 0.1 * lr_scale * momentum[i];
      });
      momenta.set(name, momentum);
      gradient.dispose();
    }
  }
  session.dispose();
  const actual = stateValues(model.native);
  for (const name of momenta.keys()) {
    actual[name]!.forEach((value, i) => {
      assert.ok(
        Math.abs(value - expected[name]![i]!) < 1e-6,
        `${name}[${i}]: ${value}, not ${expected[name]![i]!}`,
      );
    });
  }
});
