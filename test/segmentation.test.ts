/** U-Nets and the segmenters of torchvision beyond what the golden file compares. */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ArgumentError } from '#fornax/errors.js';
import { predict } from '#fornax/eval/predict.js';
import { traceLoss } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { architectures, createModule } from '#fornax/models/registry.js';
import { loadAddon } from '#fornax/native.js';
import { functional as F, Module, type Tensor as Symbolic } from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';
import { fornax } from './support/cli.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

function wave(...shape: number[]): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  return Tensor.from(
    Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i)),
    shape,
  );
}

const values = (tensor: Tensor): Float32Array => tensor.toTypedArray() as Float32Array;
const keys = (name: string, options = {}): string[] =>
  [...createModule(name, options).namedState()].map((entry) => entry.name);

function assertClose(actual: Tensor, expected: Tensor, message?: string): void {
  assert.deepEqual(actual.shape, expected.shape, message);
  const [a, b] = [values(actual), values(expected)];
  const largest = Math.max(...b.map(Math.abs));
  assert.ok(largest > 0);
  assert.ok(
    a.every((x, i) => Math.abs(x - b[i]!) <= 1e-5 * largest),
    message,
  );
}

const options = { widths: [4, 6, 8] };
const sizes = [
  [32, 48],
  [33, 50],
  [7, 100],
  [8, 8],
  [1, 1],
] as const;

describe('U-Net', () => {
  it('gives logits of the size of the image, whatever that is', async () => {
    using model = Model.create('unet', { options, numClasses: 5, inputs: [[1, 3, 64, 64]] });
    for (const [height, width] of sizes) {
      using image = wave(2, 3, height, width);
      const { out } = await model.forward(image);
      assert.deepEqual(out!.shape, [2, 5, height, width]);
    }
  });

  it('treats an odd size as the image filled up by its last row and column', async () => {
    using model = Model.create('unet', { options, inputs: [[1, 3, 64, 64]] });
    using image = wave(1, 3, 33, 50);
    const [filled] = Tensor.call('aten::pad', image, [0, 6, 0, 7], 'replicate');
    const whole = (await model.forward(filled!))['out']!;
    const expected = whole.call('aten::slice.Tensor', 2, 0, 33).call('aten::slice.Tensor', 3, 0, 50);
    assertClose((await model.forward(image))['out']!, expected);
  });

  it('serves every size from its file, whatever it was traced at', async () => {
    for (const side of [33, 64]) {
      using model = Model.create('unet', { options, inputs: [[1, 3, side, side]] });
      assert.deepEqual(model.graph.guards, []);
      const file = path.join(root.path, 'sizes.safetensors');
      await model.save(file);
      using loaded = await Model.load(file);
      for (const [height, width] of sizes) {
        using fresh = Model.create('unet', { options, inputs: [[1, 3, height, width]] });
        using image = wave(1, 3, height, width);
        const expected = (await fresh.forward(image))['out']!;
        assertClose((await loaded.forward(image))['out']!, expected, `${height}×${width}`);
      }
    }
  });

  it('has the widths, the bottleneck and the way up that it is told', () => {
    const shapeOf = (name: string, given: object): readonly number[] =>
      [...createModule('unet', given as Record<string, unknown>).namedState()].find(
        (entry) => entry.name === name,
      )!.tensor.dims;
    assert.deepEqual(shapeOf('bottleneck.0.weight', {}), [256, 128, 3, 3]);
    assert.deepEqual(shapeOf('up.0.weight', {}), [256, 128, 2, 2]);
    assert.deepEqual(shapeOf('decoder.3.0.weight', {}), [16, 32, 3, 3]);
    assert.deepEqual(shapeOf('head.weight', {}), [21, 16, 1, 1]);
    assert.deepEqual(shapeOf('bottleneck.0.weight', { widths: [4, 6], bottleneck: 9 }), [9, 6, 3, 3]);
    assert.deepEqual(shapeOf('up.0.1.weight', { bilinear: true }), [128, 256, 1, 1]);
    for (const wrong of [{ widths: [] }, { widths: [4, 0] }, { bottleneck: 0 }, { dropout: 2 }]) {
      assert.throws(() => createModule('unet', wrong), ArgumentError, JSON.stringify(wrong));
    }
  });

  it('goes up by bilinear resizing and drops channels where it is told to', async () => {
    const given = { ...options, bilinear: true, dropout: 0.5 };
    using model = Model.create('unet', { options: given, inputs: [[1, 3, 64, 64]] });
    using image = wave(2, 3, 33, 50);
    const run = async (seed: number): Promise<Float32Array> =>
      values((await model.forward(image, { modes: { dropout: 'train' }, seed }))['out']!);
    assert.equal((await run(1)).length, 2 * 21 * 33 * 50);
    assert.deepEqual(await run(1), await run(1));
    assert.notDeepEqual(await run(1), await run(2));
  });

  it('tiny: under 5 M parameters, under 8 MB on disk', async () => {
    using model = Model.create('unet_tiny');
    assert.ok(model.parameterCount < 5e6);
    const file = path.join(root.path, 'tiny.safetensors');
    await model.save(file);
    assert.ok((await stat(file)).size < 8e6);
  });

  it('survives a round trip through a file', async () => {
    using model = Model.create('unet', { options, seed: 4 });
    const file = path.join(root.path, 'unet.safetensors');
    await model.save(file);
    using loaded = await Model.load(file);
    assert.equal(loaded.info.task, 'segmentation');
    using image = wave(1, 3, 256, 256);
    assert.deepEqual(
      values((await loaded.forward(image))['out']!),
      values((await model.forward(image))['out']!),
    );
  });

  it('learns to tell two halves of an image apart', async () => {
    class PixelLoss extends Module {
      forward(out: Symbolic, mask: Symbolic): Symbolic {
        return F.crossEntropy(out, mask, { ignoreIndex: 255 });
      }
    }
    using model = Model.create('unet', { options: { widths: [4] }, numClasses: 2, inputs: [[1, 3, 7, 8]] });
    const session = new (loadAddon().TrainSession)(model.native, {
      device: 'cpu',
      threads: 1,
      loss: traceLoss(new PixelLoss(), ['out', 'mask']),
      optimizer: { name: 'adamw' },
      groups: [
        {
          parameters: model.graph.parameters.filter((p) => p.kind === 'parameter').map((p) => p.name),
          weight_decay: 0,
        },
      ],
      schedule: { name: 'constant', lr: 0.02 },
    });
    const left = (i: number): boolean => i % 8 < 4;
    using image = Tensor.from(
      Float32Array.from({ length: 3 * 56 }, (_, i) => (left(i) ? 1 : -1)),
      [1, 3, 7, 8],
    );
    using mask = Tensor.from(
      BigInt64Array.from({ length: 56 }, (_, i) => (i === 0 ? 255n : left(i) ? 1n : 0n)),
      [1, 7, 8],
    );
    const losses: number[] = [];
    for (let step = 0; step < 40; step++) {
      losses.push((await session.step({ image: image.native, mask: mask.native })).loss);
    }
    session.dispose();
    assert.ok(losses.at(-1)! < 0.1 * losses[0]!, losses.join(', '));
  });
});

describe('segmenters', () => {
  it('have auxiliary heads where the published ones do, unless told otherwise', () => {
    const names = architectures.filter(({ task }) => task === 'segmentation').map(({ name }) => name);
    const withAux = names.filter((name) => keys(name).some((key) => key.startsWith('aux_classifier.')));
    assert.deepEqual(
      withAux,
      names.filter((name) => /^(fcn|deeplabv3)_/.test(name)),
    );
    for (const name of withAux) {
      const plain = keys(name).filter((key) => !key.startsWith('aux_classifier.'));
      assert.deepEqual(keys(name, { auxLoss: false }), plain);
    }
  });

  it("take a classifier's weights for their backbone", async () => {
    const cases = [
      ['fcn_resnet50', 'resnet50', 'backbone.layer4.2.conv3.weight', 'layer4.2.conv3.weight'],
      ['lraspp_mobilenet_v3_large', 'mobilenet_v3_large', 'backbone.16.0.weight', 'features.16.0.weight'],
    ] as const;
    for (const [name, classifier, there, here] of cases) {
      using source = Model.create(classifier, { seed: 1 });
      const file = path.join(root.path, `${classifier}.safetensors`);
      await source.save(file);
      using model = Model.create(name, { seed: 2, inputs: [[1, 3, 64, 64]] });
      const report = await model.loadWeights(file, { strict: false });
      const valueOf = (of: Model, key: string): Float32Array =>
        values(of.state().find((entry) => entry.name === key)!.tensor);
      assert.deepEqual(valueOf(model, there), valueOf(source, here));
      assert.ok(
        report.missing.every((key) => /^(aux_)?classifier\./.test(key)),
        report.missing.join(', '),
      );
      assert.deepEqual(report.mismatched, []);
    }
  });

  it('take other channels and classes, and give the main output alone by default', async () => {
    using model = Model.create('deeplabv3_mobilenet_v3_large', {
      numClasses: 4,
      inChannels: 1,
      inputs: [[1, 1, 64, 64]],
    });
    using image = wave(1, 1, 49, 70);
    const outputs = await model.forward(image);
    assert.deepEqual(
      Object.entries(outputs).map(([name, { shape }]) => [name, shape]),
      [['out', [1, 4, 49, 70]]],
    );
    const summary = model.describe([1, 1, 64, 64]);
    assert.deepEqual(summary.outputs, [
      { name: 'out', shape: [1, 4, 64, 64] },
      { name: 'aux', shape: [1, 4, 64, 64], auxiliary: true },
    ]);
    assert.match(model.summary(), /aux_classifier[^]*aux \[1, 4, 64, 64\] \(auxiliary\)/);
  });
});

describe('commands', () => {
  it('models show prints a U-Net', async () => {
    const { code, stdout, stderr } = await fornax(['models', 'show', 'unet']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /bottleneck/);
    assert.match(stdout, /1,94\d,\d{3}/);
  });

  it('train refuses a segmenter, whose masks no data source reads', async () => {
    await writeColourFolder(path.join(root.path, 'images'));
    const { code, stderr } = await fornax(['train', '--data', 'images', '--model', 'unet'], {
      cwd: root.path,
    });
    assert.equal(code, 2);
    assert.match(stderr, /"unet" is for segmentation, but this job trains on images with one label each/);
    assert.match(stderr, /name a classifier/);
  });

  it('predict refuses a model whose output is no matrix of logits', async () => {
    await writeColourFolder(path.join(root.path, 'images'));
    const normalize = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };
    const preprocessing = { size: [32, 32], resize: 32, interpolation: 'bilinear', channels: 3, normalize };
    using model = Model.create('unet_tiny', { preprocessing: preprocessing as never });
    const refused = (pattern: RegExp): Promise<void> =>
      assert.rejects(
        async () => {
          for await (const _ of predict(model, [path.join(root.path, 'images')])) assert.fail();
        },
        (error) => error instanceof ArgumentError && pattern.test(error.message),
      );
    await refused(/do not take segmentation models yet/);
    model.info = { ...model.info, task: 'custom' };
    await refused(/no matrix of logits/);
  });
});
