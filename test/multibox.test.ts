/** The MultiBox loss beyond its values, which test/conformance_faces.test.ts compares: learning, parts, edges. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ArgumentError } from '#fornax/errors.js';
import { multiBox } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import { loadAddon } from '#fornax/native.js';
import { Tensor } from '#fornax/tensor.js';
import { fillInput } from './conformance/fill.js';
import { memoryData } from '#fornax/train/memory_data.js';
import { Trainer } from '#fornax/train/trainer.js';

import { batchOf } from './support/face_batch.js';

describe('the MultiBox loss', () => {
  const size: [number, number] = [64, 96];
  const faces = [
    [[0.1, 0.1, 0.5, 0.6]],
    [
      [0.3, 0.2, 0.6, 0.7],
      [0.7, 0.1, 0.95, 0.5],
      [0.05, 0.5, 0.3, 0.95],
    ],
    [],
    [[0.4, 0.4, 0.8, 0.9]],
  ];
  const image = Tensor.from(
    fillInput(4 * 3 * 64 * 96, 5).map((v) => v * 60),
    [4, 3, ...size],
  );

  test('is learned by a detector', async () => {
    using model = Model.create('featherface', { inputs: [[2, 3, ...size]], seed: 1 });
    const parameters = model.graph.parameters
      .filter(({ kind }) => kind === 'parameter')
      .map(({ name }) => name);
    const { TrainSession } = loadAddon();
    const session = new TrainSession(model.native, {
      device: 'cpu',
      loss: multiBox({ imageSize: size }),
      optimizer: { name: 'adamw' },
      groups: [{ parameters, weight_decay: 0 }],
      schedule: { name: 'constant', lr: 3e-3 },
      threads: 1,
    });
    const two = image.call('aten::slice.Tensor', 0, 0, 2);
    const losses: number[] = [];
    for (let i = 0; i < 12; i++) {
      const batch = Object.entries({ image: two, ...batchOf(faces.slice(0, 2), (k) => (k === 2 ? -1 : 1)) });
      losses.push(
        (await session.step(Object.fromEntries(batch.map(([key, { native }]) => [key, native])))).loss,
      );
    }
    session.dispose();
    assert.ok(losses.at(-1)! < 0.6 * losses[0]!, losses.map((loss) => loss.toFixed(2)).join(' '));
  });

  test('trains from a script, on images with any number of faces', { timeout: 300_000 }, async () => {
    using model = Model.create('retinaface_mobilenet025', { inputs: [[4, 3, ...size]], seed: 1 });
    using data = await memoryData({ train: { image, ...batchOf(faces) } });
    const losses: number[] = [];
    const trainer = new Trainer({
      model,
      data,
      device: 'cpu',
      loss: multiBox({ imageSize: size }),
      train: { epochs: 5, batchSize: 3, lr: 0.01, amp: 'off' },
    });
    for await (const event of trainer.fit()) if (event.type === 'epoch') losses.push(event.loss);
    assert.ok(losses.at(-1)! < 0.8 * losses[0]!, losses.map((loss) => loss.toFixed(2)).join(' '));
  });

  test('of a batch in parts is that of each part, faces included', async () => {
    const options = { loss: multiBox({ imageSize: size }), mode: 'eval' as const };
    using model = Model.create('retinaface_mobilenet025', { inputs: [[4, 3, ...size]], seed: 2 });
    const part = async (from: number, to: number): Promise<number> => {
      const slice = image.call('aten::slice.Tensor', 0, from, to);
      return (await model.lossAndGradients({ image: slice, ...batchOf(faces.slice(from, to)) }, options))
        .loss;
    };
    const { TrainSession } = loadAddon();
    const session = new TrainSession(model.native, {
      device: 'cpu',
      loss: options.loss,
      optimizer: { name: 'sgd' },
      groups: [{ parameters: ['BboxHead.0.conv1x1.weight'], weight_decay: 0 }],
      schedule: { name: 'constant', lr: 0 },
      modes: { batch_norm: 'eval' },
      grad_accum: 2,
    });
    const batch = Object.entries({ image, ...batchOf(faces) }).map(([key, { native }]) => [key, native]);
    const { loss } = await session.step(Object.fromEntries(batch), { update: false });
    session.dispose();
    const parts = ((await part(0, 2)) + (await part(2, 4))) / 2;
    assert.ok(Math.abs(loss - parts) < 1e-5 * parts, `${loss}, ${parts}`);
  });

  test('of images without faces is that of nothing', async () => {
    using model = Model.create('retinaface_mobilenet025', { inputs: [[1, 3, ...size]] });
    const one = image.call('aten::slice.Tensor', 0, 0, 1);
    const { loss, gradients } = await model.lossAndGradients(
      { image: one, ...batchOf([[]]) },
      { loss: multiBox({ imageSize: size }) },
    );
    assert.equal(loss, 0);
    const all = Object.values(gradients).flatMap((tensor) =>
      Array.from(tensor.toTypedArray() as Float32Array),
    );
    assert.ok(all.every((value) => value === 0));
  });

  test('refuses options out of range', () => {
    for (const options of [
      { threshold: 2 },
      { negativesPerPositive: -1 },
      { imageSize: [0, 3] as [number, number] },
    ]) {
      assert.throws(() => multiBox(options), ArgumentError, JSON.stringify(options));
    }
  });
});
