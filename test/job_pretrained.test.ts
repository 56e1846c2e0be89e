/** `model.pretrained` in a run: a .pth file of another number of classes, published weights, what is refused. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { defineConfig } from '#fornax/config/load.js';
import type { ConfigInput } from '#fornax/config/schema.js';
import { WeightsError } from '#fornax/errors.js';
import { readModelHeader } from '#fornax/model/file.js';
import { Model } from '#fornax/model.js';
import type { JobEvent } from '#fornax/train/events.js';
import { trainJob } from '#fornax/train/job.js';

import { testData, whyNoData } from './support/data.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
  await writeColourFolder(path.join(root.path, 'data'), { train: 8, val: 3 });
});
after(() => root[Symbol.asyncDispose]());

async function run(
  name: string,
  model: ConfigInput['model'],
): Promise<{ messages: string[]; modelPath: string }> {
  const messages: string[] = [];
  const config = defineConfig({
    name,
    model,
    data: { path: path.join(root.path, 'data'), resolution: 32, cache: path.join(root.path, 'cache') },
    train: { epochs: 1, batchSize: 8 },
    device: 'cpu',
    run: { dir: path.join(root.path, 'runs') },
  });
  const outcome = await trainJob(config, {
    report: (event: JobEvent) => {
      if (event.type === 'info') messages.push(event.message);
    },
  });
  return { messages, modelPath: outcome.modelPath! };
}

test('starts from a model file whose classifier is of another size', async () => {
  const file = path.join(root.path, 'seven.safetensors');
  using other = Model.create('tiny_cnn', { numClasses: 7 });
  await other.save(file);
  const { messages } = await run('other', { name: 'tiny_cnn', pretrained: file });
  assert.match(
    messages.join('\n'),
    /Loaded \d+ of \d+ tensors from .*seven[^]*stays as it was drawn: fc\.weight \(7 → 3\)/,
  );
});

test('refuses weights of another model, unless told to load what fits', async () => {
  const file = path.join(root.path, 'grey.safetensors');
  using grey = Model.create('tiny_cnn', { inChannels: 1 });
  await grey.save(file);
  await assert.rejects(run('strict', { name: 'tiny_cnn', pretrained: file }), (error) => {
    assert.ok(error instanceof WeightsError);
    assert.match(error.message, /conv1\.weight: model \[\d+, 3, 3, 3\], given \[\d+, 1, 3, 3\]/);
    return true;
  });
  const { messages } = await run('fits', { name: 'tiny_cnn', pretrained: file, pretrainedStrict: false });
  assert.match(messages.join('\n'), /of another shape, drawn anew: .*conv1\.weight/);
  await assert.rejects(
    run('none', { name: 'tiny_cnn', pretrained: 'imagenet1k_v1' }),
    /no published weights/,
  );
});

test('starts from published weights, with their normalisation', { skip: whyNoData('weights') }, async () => {
  const { messages, modelPath } = await run('published', {
    name: 'resnet20',
    pretrained: 'default',
    weightsDir: testData('weights'),
  });
  assert.match(
    messages.join('\n'),
    /Loaded 95 of 116 tensors from resnet20-12fca82f\.th \(akamaster cifar10\)/,
  );
  assert.match(messages.join('\n'), /linear\.weight \(10 → 3\), linear\.bias \(10 → 3\)/);
  const { info } = await readModelHeader(modelPath);
  assert.deepEqual(info.preprocessing!.normalize, {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
  });
  assert.ok((await fs.stat(modelPath)).size > 1e6);
});
