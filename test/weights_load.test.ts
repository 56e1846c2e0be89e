/** Weights from files into models: what fits, what does not, what is said about it, and what it takes of memory. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { WeightsError } from '#fornax/errors.js';
import type { GraphParameter } from '#fornax/graph/format.js';
import { Model } from '#fornax/model.js';
import { VisionTransformer } from '#fornax/models/vit.js';
import { Tensor } from '#fornax/tensor.js';
import { fitWeights } from '#fornax/weights/fit.js';
import type { TensorDirectory } from '#fornax/weights/tensor_directory.js';

import { testData, whyNoData } from './support/data.js';
import { temporaryFolder } from './support/image_folder.js';
import { pth, tensor } from './support/weights_files.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
});
after(() => root[Symbol.asyncDispose]());

/** The state of a model as an archive of torch.save, with other names, layouts or storages if wanted. */
async function archive(
  name: string,
  model: Model,
  options: { rename?: (name: string) => string; reverse?: boolean; without?: RegExp; wrap?: string } = {},
): Promise<string> {
  const storages: Record<string, Buffer> = {};
  const entries: [string, unknown][] = [];
  for (const [i, entry] of model.state().entries()) {
    if (options.without?.test(entry.name)) continue;
    const { shape, dtype } = entry.tensor;
    const values = entry.tensor.toTypedArray();
    const integer = dtype === 'int64';
    storages[i] = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    let strides = shape.map((_, d) => shape.slice(d + 1).reduce((product, size) => product * size, 1));
    if (options.reverse && shape.length === 4) {
      // Channels last, as PyTorch saves a model that was trained so.
      const [n, c, h, w] = shape as [number, number, number, number];
      const source = values as Float32Array;
      const turned = new Float32Array(source.length);
      for (let a = 0; a < n; a++)
        for (let b = 0; b < c; b++)
          for (let p = 0; p < h * w; p++) turned[(a * h * w + p) * c + b] = source[(a * c + b) * h * w + p]!;
      storages[i] = Buffer.from(turned.buffer);
      strides = [c * h * w, 1, w * c, c];
    }
    const spec = {
      key: String(i),
      elements: values.length,
      shape,
      strides,
      ...(integer ? { type: 'LongStorage' } : {}),
    };
    entries.push([options.rename?.(entry.name) ?? entry.name, tensor(spec)]);
  }
  const state = new Map(entries);
  const file = path.join(root.path, name);
  await fs.writeFile(file, pth(options.wrap ? { [options.wrap]: state, epoch: 1 } : state, storages));
  return file;
}

function values(model: Model): Record<string, unknown> {
  return Object.fromEntries(model.state().map(({ name, tensor }) => [name, tensor.toArray()]));
}

test('a .pth file fills the model, in whatever layout and under whatever prefix', async () => {
  using source = Model.create('tiny_cnn', { seed: 5 });
  const variants: [Parameters<typeof archive>[2], string[]][] = [
    [{}, []],
    [{ reverse: true }, []],
    [
      { rename: (name) => `module.${name}`, wrap: 'state_dict' },
      ["took the weights under 'state_dict'", "took 'module.' off the names"],
    ],
    [{ rename: (name) => `module.model.${name}` }, ["took 'module.model.' off the names"]],
    [{ rename: (name) => `_orig_mod.module.${name}` }, ["took '_orig_mod.module.' off the names"]],
  ];
  for (const [i, [options, notes]] of variants.entries()) {
    using model = Model.create('tiny_cnn', { seed: 6 });
    const report = await model.loadWeights(await archive(`v${i}.pth`, source, options));
    assert.deepEqual(values(model), values(source));
    assert.deepEqual(report.notes, notes);
    assert.equal(report.loaded, model.graph.parameters.length);
    assert.equal(report.format, 'pth');
  }
});

test('counters of batch norm may be missing altogether, but not in part', async () => {
  using source = Model.create('tiny_cnn', { seed: 5 });
  using model = Model.create('tiny_cnn');
  const none = await archive('none.pth', source, { without: /num_batches_tracked/ });
  const { missing, notes } = await model.loadWeights(none);
  assert.deepEqual(missing, []);
  assert.match(notes[0]!, /before 0\.4\.1/);
  const first = source.graph.parameters.find(({ name }) => name.endsWith('num_batches_tracked'))!.name;
  const part = await archive('part.pth', source, {
    without: new RegExp(`^${first.replaceAll('.', '\\.')}$`),
  });
  await assert.rejects(
    model.loadWeights(part),
    new RegExp(`missing \\(1\\):\\s+${first.replaceAll('.', '\\.')}`),
  );
});

test('what does not fit is listed by name and shape, and nothing is changed', async () => {
  using source = Model.create('tiny_cnn', { seed: 5, numClasses: 7, inChannels: 1 });
  using model = Model.create('tiny_cnn');
  const before = values(model);
  const file = await archive('other.pth', source, { rename: (name) => (name === 'bn1.bias' ? 'odd' : name) });
  await assert.rejects(model.loadWeights(file), (error) => {
    assert.ok(error instanceof WeightsError);
    assert.match(error.message, /missing \(1\):\s+bn1\.bias/);
    assert.match(error.message, /unexpected \(1\):\s+odd/);
    assert.match(
      error.message,
      /of another shape \(3\):\s+conv1\.weight: model \[\d+, 3, 3, 3\], given \[\d+, 1, 3, 3\]/,
    );
    assert.ok(error.message.includes(file));
    return true;
  });
  assert.deepEqual(values(model), before);
  const report = await model.loadWeights(file, { strict: false });
  assert.deepEqual([report.missing, report.unexpected, report.mismatched.length], [['bn1.bias'], ['odd'], 3]);
  assert.deepEqual(values(model)['bn1.weight'], values(source)['bn1.weight']);
});

test('a classifier of another size is left as it was drawn, if that is all that differs', async () => {
  using source = Model.create('tiny_cnn', { seed: 5, numClasses: 7 });
  const file = await archive('seven.pth', source);
  const messages: string[] = [];
  using model = await Model.pretrained('tiny_cnn', {
    weights: file,
    numClasses: 3,
    seed: 8,
    onMessage: (m) => messages.push(m),
  });
  using drawn = Model.create('tiny_cnn', { numClasses: 3, seed: 8 });
  assert.deepEqual(values(model)['fc.weight'], values(drawn)['fc.weight']);
  assert.deepEqual(values(model)['conv1.weight'], values(source)['conv1.weight']);
  // What is saved with a model names no folder of the machine it was made on.
  assert.deepEqual(model.info.provenance, { pretrained: 'seven.pth', weights: 'seven.pth' });
  assert.match(messages.join('\n'), /Loaded \d+ of \d+ tensors[^]*fc\.weight \(7 → 3\), fc\.bias \(7 → 3\)/);
  await assert.rejects(Model.pretrained('tiny_cnn', { weights: file, inChannels: 1 }), /of another shape/);
  await assert.rejects(model.loadWeights(file), /fc\.weight: model \[3, \d+\], given \[7, \d+\]/);
});

test('positions of a vision transformer for another size say which option makes them fit', async () => {
  const size = { layers: 1, heads: 2, channels: 8, mlp: 16, patch: 16 };
  const make = (imageSize: number): Model =>
    Model.create(new VisionTransformer(size, { numClasses: 3, imageSize }), { inputs: [[1, 3, 32, 32]] });
  using source = make(64);
  const file = await archive('positions.pth', source);
  using other = make(32);
  await assert.rejects(
    other.loadWeights(file),
    /pos_embedding: model \[1, 5, 8\], given \[1, 17, 8\][^]*image_size \(imageSize\) to 64/,
  );
  using same = make(64);
  assert.deepEqual((await same.loadWeights(file)).mismatched, []);
});

test('weights can be loaded while the model runs: one waits for the other', async () => {
  using source = Model.create('tiny_cnn', { seed: 5 });
  using model = Model.create('tiny_cnn', { seed: 6 });
  const file = await archive('running.pth', source);
  const x = Tensor.from(
    Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => Math.sin(i)),
    [1, 3, 32, 32],
  );
  const old = (await model.forward(x)).output!.toArray();
  const next = (await source.forward(x)).output!.toArray();
  const runs = [model.forward(x), model.forward(x), model.loadWeights(file), model.forward(x)] as const;
  const [a, b, , c] = await Promise.all(runs);
  assert.deepEqual([a.output!.toArray(), b.output!.toArray(), c.output!.toArray()], [old, old, next]);
});

function directory(names: readonly (readonly [string, number[]])[]): TensorDirectory {
  return {
    format: 'pth',
    tensors: names.map(([name, shape]) => ({ name, dtype: 'float32', shape, offset: 0, length: 0 })),
    skipped: [],
    metadata: {},
    notes: [],
  };
}

function parameters(names: readonly (readonly [string, number[]])[]): GraphParameter[] {
  return names.map(([name, shape], slot) => ({
    name,
    shape,
    dtype: 'float32',
    kind: 'parameter',
    slot,
    init: { kind: 'constant', value: 0 },
  }));
}

test('the names of other publications are translated', () => {
  const pairs: Record<string, [string, string, number[]?, number[]?][]> = {
    'older names of DenseNet': [
      ['features.denseblock1.denselayer1.norm.1.weight', 'features.denseblock1.denselayer1.norm1.weight'],
      ['features.denseblock1.denselayer1.conv.2.weight', 'features.denseblock1.denselayer1.conv2.weight'],
      ['classifier.weight', 'classifier.weight'],
    ],
    "MobileNetV1's nested": [
      ['stage1.0.0.weight', 'stage1.0.0.weight'],
      ['stage1.1.0.1.bias', 'stage1.1.1.bias'],
      ['stage2.3.1.0.weight', 'stage2.3.3.weight'],
    ],
    "timm's ConvNeXt": [
      ['stem.1.weight', 'features.0.1.weight'],
      ['stages.1.downsample.0.bias', 'features.2.0.bias'],
      ['stages.2.blocks.8.mlp.fc1.weight', 'features.5.8.block.3.weight'],
      ['stages.0.blocks.0.gamma', 'features.1.0.layer_scale', [96], [96, 1, 1]],
      ['head.norm.weight', 'classifier.0.weight'],
      ['head.fc.bias', 'classifier.2.bias'],
    ],
    "timm's vision": [
      ['cls_token', 'class_token'],
      ['blocks.11.attn.qkv.bias', 'encoder.layers.encoder_layer_11.self_attention.in_proj_bias'],
      ['blocks.0.mlp.fc2.weight', 'encoder.layers.encoder_layer_0.mlp.3.weight'],
      ['norm.weight', 'encoder.ln.weight'],
    ],
    "timm's Swin": [
      ['layers.0.blocks.1.attn.qkv.weight', 'features.1.1.attn.qkv.weight'],
      ['layers.1.downsample.reduction.weight', 'features.2.reduction.weight'],
      ['layers.3.blocks.0.mlp.fc2.bias', 'features.7.0.mlp.3.bias'],
      ['head.fc.weight', 'head.weight'],
    ],
    "timm's EfficientNet": [
      ['conv_stem.weight', 'features.0.0.weight'],
      ['blocks.0.0.conv_dw.weight', 'features.1.0.block.0.0.weight'],
      ['blocks.0.0.bn1.weight', 'features.1.0.block.0.1.weight'],
      ['blocks.0.0.se.conv_reduce.weight', 'features.1.0.block.1.fc1.weight'],
      ['blocks.0.0.conv_pw.weight', 'features.1.0.block.2.0.weight'],
      ['blocks.0.0.bn2.bias', 'features.1.0.block.2.1.bias'],
      ['conv_head.weight', 'features.2.0.weight'],
    ],
    "timm's RegNet": [
      ['s2.b1.conv1.conv.weight', 'trunk_output.block2.block2-0.f.a.0.weight'],
      ['s4.b6.downsample.bn.bias', 'trunk_output.block4.block4-5.proj.1.bias'],
      ['head.fc.weight', 'fc.weight'],
    ],
    "timm's VGG": [
      ['pre_logits.fc1.weight', 'classifier.0.weight', [8, 2, 3, 3], [8, 18]],
      ['features.0.weight', 'features.0.weight'],
    ],
  };
  for (const [map, names] of Object.entries(pairs)) {
    const given = directory(names.map(([from, , shape = [1]]) => [from, shape]));
    const fitted = fitWeights(given, parameters(names.map(([, to, , shape = [1]]) => [to, shape])));
    assert.deepEqual(
      fitted.tensors.map(({ name, shape }) => [name, shape]),
      names.map(([, to, , shape = [1]]) => [to, shape]),
      map,
    );
    assert.ok(
      fitted.notes.some((note) => note.includes(`translated the names: `) && note.includes(map)),
      map,
    );
  }
});

test('no file decides how long names are compared', () => {
  const long = directory([['a'.repeat(2000), [1]]]);
  assert.throws(() => fitWeights(long, parameters([['w', [1]]])), /a name of 2000 characters/);
  const many = directory(Array.from({ length: 100_001 }, (_, i) => [`w${i}`, [1]] as const));
  assert.throws(() => fitWeights(many, parameters([['w', [1]]])), /100001 tensors/);
});

test('two names of a file that would become one are refused', () => {
  const given = directory([
    ['module.w', [1]],
    ['w', [1]],
    ['module.v', [1]],
  ]);
  assert.throws(
    () =>
      fitWeights(
        given,
        parameters([
          ['w', [1]],
          ['v', [1]],
        ]),
      ),
    /two tensors .* 'w'/,
  );
});

test('published files of the face repositories load strictly', { skip: whyNoData('weights') }, async () => {
  const folder = testData('weights')!;
  for (const architecture of ['retinaface_mobilenet025', 'featherface_baseline', 'featherface_eca_cbam']) {
    const messages: string[] = [];
    using model = await Model.pretrained(architecture, {
      folder,
      onMessage: (message) => messages.push(message),
    });
    const count = model.graph.parameters.length;
    assert.match(messages[0]!, new RegExp(`^Loaded ${count} of ${count} tensors`));
    assert.equal(messages.length, 1);
  }
});

/** Peak of resident memory beyond what was there, in multiples of the model's state. */
function load(...args: string[]): { state: number; grown: number; peak: number } {
  const child = fileURLToPath(new URL('./support/load_child.js', import.meta.url));
  return JSON.parse(execFileSync(process.execPath, [child, ...args], { encoding: 'utf8' })) as ReturnType<
    typeof load
  >;
}

test('loading takes the model and at most a fifth more of memory, whatever the file', async () => {
  using model = Model.create('resnet50', { seed: 1 });
  const own = path.join(root.path, 'resnet50.safetensors');
  await model.save(own);
  const plain = await archive('resnet50.pth', model);
  const turned = await archive('resnet50_cl.pth', model, { reverse: true });
  const runs: [string, ReturnType<typeof load>][] = [
    ['Model.load', load('model', own)],
    ['safetensors', load('weights', 'resnet50', own)],
    ['.pth', load('weights', 'resnet50', plain)],
    ['.pth in another layout', load('weights', 'resnet50', turned)],
  ];
  for (const [name, { state, peak }] of runs) {
    assert.ok(state > 100e6, `${name}: ${state} bytes of weights`);
    // What the process had and no longer needs is used again, and the kernel counts in batches: not all is new.
    assert.ok(peak > 0.9 * state, `${name}: a peak of ${peak} bytes holds the model`);
    assert.ok(peak < 1.2 * state, `${name}: ${(peak / state).toFixed(3)} times the weights at the peak`);
  }
});
