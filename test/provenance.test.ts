/** What model files and exports tell of where a model comes from: nothing of the machine's folders. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { exportModel } from '#fornax/export/export_model.js';
import { Model } from '#fornax/model.js';
import { portableProvenance } from '#fornax/model/provenance.js';
import { Linear } from '#fornax/nn/index.js';

import { temporaryFolder } from './support/image_folder.js';

const config = {
  name: 'resnet18-photos',
  model: { name: 'resnet18', pretrained: '../secret/start.pth', weights_dir: '/home/secret/weights' },
  data: { path: 'secret/photos', cache: '/mnt/secret', train: 'train', val: '/secret/val', source: 'auto' },
  run: { dir: '/home/secret/runs', existing: 'skip' },
  train: {
    lr: 0.1,
    milestones: [1, 2],
    loss: [{ name: 'distillation', teacher: '~/secret/teacher.safetensors' }],
  },
};
const cleaned = {
  name: 'resnet18-photos',
  model: { name: 'resnet18', pretrained: 'start.pth' },
  data: { train: 'train', val: 'val', source: 'auto' },
  run: { existing: 'skip' },
  train: { lr: 0.1, milestones: [1, 2], loss: [{ name: 'distillation', teacher: 'teacher.safetensors' }] },
};

test('leaves out folders, keeps the last part of other paths and everything else', () => {
  assert.deepEqual(portableProvenance({ run: 'first', epoch: 3, best: null, config }), {
    run: 'first',
    epoch: 3,
    best: null,
    config: cleaned,
  });
  const weights = (given: string): unknown => portableProvenance({ weights: given })['weights'];
  assert.equal(weights('C:\\Users\\secret\\a.pth'), 'a.pth');
  assert.equal(weights('file:///secret/a.pth'), 'a.pth');
  assert.equal(weights('imagenet1k_v1'), 'imagenet1k_v1');
  assert.equal(weights('https://example.org/a.pth#sha256=00'), 'https://example.org/a.pth#sha256=00');
  assert.equal(weights('https://me:secret@example.org/a.pth'), 'https://example.org/a.pth');
});

test('no export tells of folders, whatever the model file says', async () => {
  await using root = await temporaryFolder();
  const file = path.join(root.path, 'model.safetensors');
  {
    using made = Model.create(new Linear(3, 2), { inputs: [[2, 3]] });
    await made.save(file, { provenance: { config } });
  }
  const format = ['fornax', 'safetensors', 'torchscript', 'onnx'] as const;
  const out = path.join(root.path, 'out');
  for (const { file: exported } of await exportModel(file, { format, out })) {
    const bytes = await fs.readFile(exported);
    assert.ok(bytes.includes('resnet18-photos'), exported);
    assert.ok(!bytes.includes('secret'), exported);
  }
});
