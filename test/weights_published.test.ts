/** Published weights: the table is sound, and weights at hand give the results they were published with. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { evaluateModel } from '#fornax/eval/evaluate.js';
import { predict } from '#fornax/eval/predict.js';
import { Model } from '#fornax/model.js';
import { IMAGENET_LABELS, VOC_LABELS } from '#fornax/models/labels.js';
import { originOfWeights, publishedWeights } from '#fornax/models/published_weights.js';
import { architectures } from '#fornax/models/registry.js';
import { Tensor } from '#fornax/tensor.js';

import { fornax } from './support/cli.js';
import { testData, whyNoData } from './support/data.js';
import { temporaryFolder } from './support/image_folder.js';

test('every entry of the table is of an architecture, with a checksum and a way to the file', () => {
  const zoo = new Map(architectures.map((architecture) => [architecture.name, architecture]));
  const seen = new Set<string>();
  for (const entry of publishedWeights()) {
    const { architecture, name, file, sha256, url, labels, preprocessing } = entry;
    assert.ok(zoo.has(architecture), architecture);
    assert.ok(!seen.has(`${architecture}/${name}`), `${architecture}/${name} occurs twice`);
    seen.add(`${architecture}/${name}`);
    assert.match(sha256, /^[0-9a-f]{8,64}$/);
    if (url !== null)
      assert.ok(file.includes(sha256) && url.startsWith('https://') && url.endsWith(`/${file}`));
    if (labels.length > 0) assert.equal(labels.length, zoo.get(architecture)!.defaultClasses, architecture);
    if (preprocessing)
      assert.ok(preprocessing.size![0] <= preprocessing.resize! || preprocessing.resize === 0);
  }
  for (const architecture of new Set(publishedWeights().map((entry) => entry.architecture))) {
    const defaults = publishedWeights(architecture).filter(({ isDefault }) => isDefault);
    assert.equal(defaults.length, 1, architecture);
  }
  assert.ok(seen.size >= 110, `${seen.size} entries`);
});

test('names of classes are those of their data sets', () => {
  assert.equal(IMAGENET_LABELS.length, 1000);
  assert.deepEqual(
    [IMAGENET_LABELS[0], IMAGENET_LABELS[8], IMAGENET_LABELS[999]],
    ['tench', 'hen', 'toilet tissue'],
  );
  assert.equal(VOC_LABELS.length, 21);
  assert.deepEqual([VOC_LABELS[0], VOC_LABELS[15]], ['__background__', 'person']);
});

test('the origin of weights, for lists', () => {
  assert.equal(originOfWeights('resnet50'), 'torchvision: imagenet1k_v2, imagenet1k_v1');
  assert.equal(originOfWeights('tiny_cnn'), '');
});

const NEEDS = (...names: Parameters<typeof whyNoData>[0][]): string | false =>
  names.map(whyNoData).find((reason) => reason !== false) ?? false;

test(
  'resnet20-12fca82f.th scores 0.810 on CIFAR-10 as JPEG',
  { skip: NEEDS('weights', 'cifar10-jpeg') },
  async () => {
    using model = await Model.pretrained('resnet20', { folder: testData('weights')! });
    await using cache = await temporaryFolder();
    const images = path.join(testData('cifar10-jpeg')!, 'test');
    const report = await evaluateModel(model, images, { cache: cache.path });
    assert.equal(report.samples, 10_000);
    assert.ok(Math.abs(report.top1 - 0.81) <= 0.003, `top-1 ${report.top1}`);
  },
);

test(
  'MobileNetV1-0.25 in both its publications: one network, 78 of 150 right',
  { skip: NEEDS('weights', 'imagenet-sample') },
  async () => {
    const folder = testData('weights')!;
    using first = await Model.pretrained('mobilenetv1_025', { folder });
    using second = await Model.pretrained('mobilenetv1_025', {
      weights: path.join(folder, 'mobilenetv1_025.pretrained'),
    });
    const x = Tensor.from(
      Float32Array.from({ length: 3 * 224 * 224 }, (_, i) => Math.sin(i)),
      [1, 3, 224, 224],
    );
    const outputs = await Promise.all(
      [first, second].map(async (model) => (await model.forward(x)).output!.toArray()),
    );
    assert.deepEqual(outputs[0], outputs[1]);

    const images = testData('imagenet-sample')!;
    const names = (await fs.readdir(images)).filter((name) => /\.jpe?g$/i.test(name)).sort();
    assert.equal(names.length, 150);
    let right = 0;
    for await (const prediction of predict(
      first,
      names.map((name) => path.join(images, name)),
    )) {
      const category = /^n\d+_(.*)\.jpe?g$/i.exec(path.basename(prediction.path))![1]!.replaceAll('_', ' ');
      if (prediction.predictions[0]!.label === category) right++;
    }
    assert.ok(Math.abs(right - 78) <= 2, `${right} of 150`);
  },
);

test(
  '`fornax models get` writes a model file that predict takes',
  { skip: NEEDS('weights', 'imagenet-sample') },
  async () => {
    await using cwd = await temporaryFolder();
    const run = (...args: string[]): ReturnType<typeof fornax> => fornax(args, { cwd: cwd.path });
    const got = await run('models', 'get', 'mobilenetv1_025', '--weights-dir', testData('weights')!);
    assert.equal(got.code, 0, got.stderr);
    assert.match(got.stdout, /Wrote mobilenetv1_025\.safetensors: .* 224×224 pixels, 1000 classes/);
    const again = await run('models', 'get', 'mobilenetv1_025', '--weights-dir', testData('weights')!);
    assert.equal(again.code, 2);
    const image = path.join(testData('imagenet-sample')!, 'n01537544_indigo_bunting.JPEG');
    const { stdout } = await run('predict', image, '--model', 'mobilenetv1_025.safetensors');
    assert.match(stdout, /indigo bunting +\d+\.\d %/);
    const missing = await run('models', 'get', 'retinaface_mobilenet025', '--weights-dir', cwd.path);
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, /not on this machine/);
  },
);
