/** exportModel: every format written, checked, and put in its place, or nothing at all. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import sharp from 'sharp';

import { ArgumentError, ConfigError, ExportError, GuardError } from '#fornax/errors.js';
import { checkInputs, disposeInputs } from '#fornax/export/check_inputs.js';
import { difference, sameBits, spread } from '#fornax/export/compare.js';
import { exportFormatsOf, exportModel } from '#fornax/export/export_model.js';
import type { Exporter, ExportFormat } from '#fornax/export/format.js';
import { exportSource } from '#fornax/export/source.js';
import { runSource, type verify } from '#fornax/export/verify.js';
import { writeChecked } from '#fornax/export/write_checked.js';
import { safetensors } from '#fornax/export/weights.js';
import { readHeader } from '#fornax/io/safetensors_header.js';
import { Model } from '#fornax/model.js';
import type { Preprocessing } from '#fornax/model/info.js';
import {
  BatchNorm2d,
  Conv2d,
  Dropout,
  functional as F,
  init,
  Linear,
  Module,
  type Tensor as Symbolic,
} from '#fornax/nn/index.js';
import { Tensor } from '#fornax/tensor.js';

import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

const all: ExportFormat[] = ['fornax', 'safetensors', 'pth', 'torchscript'];
const preprocessing: Preprocessing = {
  channels: 3,
  pack_size: null,
  resize: 18,
  size: [16, 16],
  normalize: { mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3] },
};

class Small extends Module {
  readonly conv = new Conv2d(3, 8, 3, { padding: 1 });
  readonly bn = new BatchNorm2d(8);
  readonly drop = new Dropout(0.5);
  readonly fc = new Linear(8, 4);
  forward(x: Symbolic): Symbolic {
    return this.fc.forward(this.drop.forward(F.relu(this.bn.forward(this.conv.forward(x))).mean([2, 3])));
  }
}

let root: Awaited<ReturnType<typeof temporaryFolder>>;
let model: Model;
before(async () => {
  root = await temporaryFolder();
  model = Model.create(new Small(), {
    inputs: [[1, 3, 16, 16]],
    preprocessing,
    labels: ['a', 'b', 'c', 'd'],
  });
});
after(async () => {
  model.dispose();
  await root[Symbol.asyncDispose]();
});

let folders = 0;
const newFolder = (): string => path.join(root.path, `out${folders++}`);

test('writes every format under the name of the model and says how it was checked', async () => {
  const out = newFolder();
  const results = await exportModel(model, { format: all, out });
  assert.deepEqual((await fs.readdir(out)).sort(), [
    'Small.fornax.safetensors',
    'Small.pt',
    'Small.pth',
    'Small.safetensors',
  ]);
  for (const { format, file, bytes, inputs, guards, check } of results) {
    assert.equal(bytes, (await fs.stat(file)).size, format);
    assert.deepEqual(inputs[0]!.dims, ['batch', 3, 'height', 'width']);
    assert.deepEqual(guards, []);
    assert.equal(check.inputs, 'random');
    assert.equal(check.samples, 2);
    assert.deepEqual(
      check.differences.map(({ output }) => output),
      ['output'],
    );
    assert.ok(check.relative <= check.tolerance);
    assert.ok(check.differences[0]!.std > 0);
  }
});

test('the model file is a model again; weights alone are no model, but load into one', async () => {
  const out = newFolder();
  const [whole, weights, pth] = await exportModel(model, { format: ['fornax', 'safetensors', 'pth'], out });
  using loaded = await Model.load(whole!.file);
  assert.deepEqual(loaded.graph, model.graph);
  assert.deepEqual(loaded.info, model.info);
  await assert.rejects(Model.load(weights!.file), /holds weights, but no model/);
  for (const { file } of [weights!, pth!]) {
    using fresh = Model.create(new Small(), { inputs: [[1, 3, 16, 16]], seed: 99 });
    await fresh.loadWeights(file);
    const state = fresh.state();
    for (const [i, { name, tensor }] of model.state().entries()) {
      assert.equal(state[i]!.name, name);
      assert.ok(sameBits(tensor, state[i]!.tensor), name);
    }
  }
});

test('files describe what they hold', async () => {
  const [weights] = await exportModel(model, { format: 'safetensors', out: newFolder() });
  const { metadata } = await readHeader(weights!.file);
  assert.equal(metadata.format, 'pt');
  const described = JSON.parse(metadata.fornax!) as Record<string, unknown>;
  assert.deepEqual(described.labels, ['a', 'b', 'c', 'd']);
  assert.deepEqual(described.preprocessing, preprocessing);
  assert.equal(described.preprocessing_inside, false);
});

test('one format may name its file; a folder that is there stays a folder', async () => {
  const out = newFolder();
  const [named] = await exportModel(model, { format: 'pth', out: path.join(out, 'best.bin') });
  assert.equal(named!.file, path.join(out, 'best.bin'));
  await fs.mkdir(path.join(out, 'v1.0'));
  const [inside] = await exportModel(model, { format: 'pth', out: path.join(out, 'v1.0'), name: '../a b' });
  assert.equal(inside!.file, path.join(out, 'v1.0', '_a_b.pth'));
});

test('preprocessing inside: the export takes pixels and answers as the model does', async () => {
  const [script] = await exportModel(model, { format: 'torchscript', out: newFolder(), preprocess: true });
  assert.deepEqual(script!.inputs[0], {
    name: 'image',
    dtype: 'uint8',
    shape: [1, 16, 16, 3],
    dims: ['batch', 'height', 'width', 3],
  });
  assert.ok(script!.check.relative < 1e-5);
  // Its constants are no weights: the archive is still one of this model.
  using fresh = Model.create(new Small(), { inputs: [[1, 3, 16, 16]], seed: 99 });
  await fresh.loadWeights(script!.file);
  using bare = Model.create(new Small(), { inputs: [[1, 3, 16, 16]] });
  await assert.rejects(
    exportModel(bare, { format: 'torchscript', out: newFolder(), preprocess: true }),
    ConfigError,
  );
});

test('colours in the order the model was made for', async () => {
  using bgr = Model.create(new Small(), {
    inputs: [[1, 3, 16, 16]],
    preprocessing: { ...preprocessing, channel_order: 'bgr' },
  });
  const [script] = await exportModel(bgr, { format: 'torchscript', out: newFolder(), preprocess: true });
  assert.ok(script!.check.relative < 1e-5);
});

test('checks with the images that were given', async () => {
  const folder = newFolder();
  await writeColourFolder(folder, { train: 1, val: 0 });
  for (const preprocess of [false, true]) {
    const results = await exportModel(model, { format: all, out: newFolder(), images: [folder], preprocess });
    for (const { check } of results) {
      assert.equal(check.inputs, 'images');
      assert.equal(check.samples, 3);
    }
  }
  using bare = Model.create(new Small(), { inputs: [[1, 3, 16, 16]] });
  await assert.rejects(
    exportModel(bare, { format: 'pth', out: newFolder(), images: [folder] }),
    ArgumentError,
  );
});

test('another resolution holds for what the export says of its preprocessing', async () => {
  const [script] = await exportModel(model, {
    format: 'safetensors',
    out: newFolder(),
    resolution: [32, 64],
  });
  assert.deepEqual(script!.inputs[0]!.shape, [1, 3, 32, 64]);
  const { metadata } = await readHeader(script!.file);
  const { preprocessing: said } = JSON.parse(metadata.fornax!) as { preprocessing: Preprocessing };
  assert.deepEqual([said.resize, said.size], [36, [32, 64]]);

  class Padded extends Module {
    forward(x: Symbolic): Symbolic {
      const rest = x.size(2).mod(4);
      return rest.eq(0) ? x.mul(2) : F.pad(x, [0, 0, 0, rest.neg().add(4)]);
    }
  }
  using padded = Model.create(new Padded(), { inputs: [[1, 3, 16, 16]] });
  const [specialised] = await exportModel(padded, { format: 'torchscript', out: newFolder() });
  assert.deepEqual(specialised!.inputs[0]!.dims, ['batch', 'image_1', 16, 'width']);
  assert.equal(specialised!.guards.length, 1);
  await assert.rejects(exportModel(padded, { format: 'pth', out: newFolder(), resolution: 17 }), GuardError);
  await assert.rejects(
    exportModel(padded, { format: 'pth', out: newFolder(), resolution: 0 }),
    ArgumentError,
  );
});

test('refuses unknown formats, no format, and to replace the model by its weights', async () => {
  await assert.rejects(
    exportModel(model, { format: 'pht' as 'pth', out: newFolder() }),
    /did you mean 'pth'/,
  );
  await assert.rejects(exportModel(model, { format: [], out: newFolder() }), ArgumentError);
  const folder = newFolder();
  await fs.mkdir(folder);
  const file = path.join(folder, 'model.safetensors');
  await model.save(file);
  await assert.rejects(
    exportModel(file, { format: 'safetensors', out: folder }),
    /would replace the model file/,
  );
  const [kept] = await exportModel(file, { format: 'torchscript', out: folder });
  assert.equal(path.basename(kept!.file), 'model.pt');
});

/** A source and what it answers, as exportFormatsOf makes them. */
async function prepared<T>(
  work: (
    parts: Parameters<typeof verify>[1],
    source: ReturnType<typeof exportSource>['source'],
  ) => Promise<T>,
): Promise<T> {
  const { source, release } = exportSource({
    graph: model.graph,
    state: model.native.state(),
    info: model.info,
  });
  const inputs = await checkInputs(source, { preprocess: false, seed: 1 });
  const expected = await runSource(model.native, inputs, { device: 'cpu', normalize: null });
  try {
    return await work(expected, source);
  } finally {
    disposeInputs(inputs);
    release();
  }
}

test('a failed check is a failed export: what was there before is still there', async () => {
  await prepared(async (expected, source) => {
    const folder = newFolder();
    await fs.mkdir(folder);
    const file = path.join(folder, 'model.bin');
    const second = path.join(folder, 'model.data');
    await fs.writeFile(file, 'before');
    const off = (change: (x: Tensor) => Tensor): Exporter => ({
      ...safetensors,
      write: async (from, temporary) => {
        await fs.writeFile(second, 'weights');
        await safetensors.write(from, temporary, file);
        return [second];
      },
      open: async (from, temporary) => {
        const opened = await safetensors.open(from, temporary);
        return {
          ...opened,
          forward: async (inputs) => {
            const { output } = await opened.forward(inputs);
            return { output: change(new Tensor(output!)).native };
          },
        };
      },
    });
    const faults: [RegExp, (x: Tensor) => Tensor][] = [
      [/does not compute what the source does/, (x) => x.call('aten::add.Scalar', 1e-3)],
      [/differs by up to NaN/, (x) => x.call('aten::log')],
      [/differs by up to Infinity/, (x) => x.call('aten::unsqueeze', 0)],
    ];
    for (const [message, change] of faults) {
      await assert.rejects(
        writeChecked(off(change), source, file, expected, { tolerance: 1e-5 }),
        (error: unknown) => error instanceof ExportError && message.test(error.what) && error.where === file,
      );
      assert.deepEqual(await fs.readdir(folder), ['model.bin']);
      assert.equal(await fs.readFile(file, 'utf8'), 'before');
    }
    await writeChecked(
      off((x) => x),
      source,
      file,
      expected,
      { tolerance: 1e-5 },
    );
    assert.deepEqual(await fs.readdir(folder), ['model.bin', 'model.data']);
  });
});

test('weights that did not arrive as they were written fail the check', async () => {
  await prepared(async (expected, source) => {
    const folder = newFolder();
    await fs.mkdir(folder);
    const broken: Exporter = {
      ...safetensors,
      write: async (from, file) => {
        await safetensors.write(from, file, file);
        const bytes = await fs.readFile(file);
        bytes[bytes.length - 1]! ^= 1;
        await fs.writeFile(file, bytes);
      },
    };
    await assert.rejects(
      writeChecked(broken, source, path.join(folder, 'x'), expected, { tolerance: 1 }),
      /is not in the file as it was written/,
    );
    assert.deepEqual(await fs.readdir(folder), []);
  });
});

test('a format that cannot hold the model does not keep the others from being written', async () => {
  class Keyword extends Module {
    readonly lambda = new Linear(3, 2);
    forward(x: Symbolic): Symbolic {
      return this.lambda.forward(x);
    }
  }
  using odd = Model.create(new Keyword(), { inputs: [[2, 3]] });
  const out = newFolder();
  const outcomes: string[] = [];
  for await (const outcome of exportFormatsOf(odd, { format: ['torchscript', 'pth'], out })) {
    outcomes.push('error' in outcome ? `${outcome.format}: ${outcome.error.what}` : outcome.format);
  }
  assert.match(
    outcomes[0]!,
    /torchscript: the model cannot be exported as torchscript: .*'lambda' is a reserved word/,
  );
  assert.equal(outcomes[1], 'pth');
  assert.deepEqual(await fs.readdir(out), ['Keyword.pth']);
  await assert.rejects(exportModel(odd, { format: 'torchscript', out }), ExportError);
});

test('a check that no file could fail is called inconclusive', async () => {
  const untrained = new Small();
  init.zeros(untrained.fc.weight);
  using zeroHead = Model.create(untrained, { inputs: [[1, 3, 16, 16]], preprocessing });
  const images = path.join(root.path, 'grey.png');
  await sharp({ create: { width: 20, height: 20, channels: 3, background: '#777' } }).toFile(images);
  for (const given of [{}, { images: [images] }]) {
    const format = ['torchscript', 'onnx', 'pth'] as const;
    const results = await exportModel(zeroHead, { format, out: newFolder(), ...given });
    assert.deepEqual(
      results.map(({ check }) => [check.conclusive, ...check.unmoved]),
      [
        [false, 'output'],
        [false, 'output'],
        // Bits of the weights were compared.
        [true, 'output'],
      ],
    );
    // One grey image tells nothing, but the noise beside it does.
    const [usual] = await exportModel(model, { format: 'onnx', out: newFolder(), ...given });
    assert.deepEqual([usual!.check.conclusive, usual!.check.unmoved], [true, []]);
  }
});

test('a batch of one image is checked with a second sample', async () => {
  class Fixed extends Module {
    readonly fc = new Linear(12, 2);
    forward(x: Symbolic): Symbolic {
      return this.fc.forward(x.reshape(1, 12));
    }
  }
  using fixed = Model.create(new Fixed(), { inputs: [[1, 3, 2, 2]] });
  const [result] = await exportModel(fixed, { format: 'onnx', out: newFolder() });
  assert.deepEqual(result!.inputs[0]!.dims, [1, 3, 2, 2]);
  assert.equal(result!.check.conclusive, true);
});

test('the spread of answers is that of one sample to another', () => {
  const t = (shape: number[], ...values: number[]): Tensor => Tensor.from(new Float32Array(values), shape);
  assert.equal(spread([t([2, 2], 1, 3, 1, 3)], [2]), 0);
  assert.equal(spread([t([2, 2], 1, 3, 1, 5)], [2]), 2);
  assert.equal(spread([t([1, 2], 1, 3), t([1, 2], 1, 5)], [1, 1]), 2);
  // Not a batch: one answer, and one of another shape.
  assert.equal(spread([t([2], 1, 3), t([3], 1, 3, 4)], [1, 1]), 0);
});

test('compares bits, and outputs by the deviation of the reference', () => {
  const t = (...values: number[]): Tensor => Tensor.from(new Float32Array(values), [values.length]);
  assert.ok(sameBits(t(NaN, 1), t(NaN, 1)));
  assert.ok(!sameBits(t(0), t(-0)));
  assert.ok(!sameBits(t(1), Tensor.from(new Float64Array([1]), [1])));
  assert.ok(sameBits(Tensor.zeros([0, 3]), Tensor.zeros([0, 3])));
  assert.ok(!sameBits(Tensor.zeros([0, 3]), Tensor.zeros([3, 0])));
  const apart = difference('o', t(1, 3), t(1, 3.5));
  assert.deepEqual(apart, { output: 'o', largest: 0.5, std: 1, relative: 0.5 });
  assert.equal(difference('o', t(2, 2), t(2, 3)).relative, 0.5);
  assert.equal(difference('o', t(Infinity, 1), t(Infinity, 1)).largest, 0);
  assert.ok(Number.isNaN(difference('o', t(1, 2), t(NaN, 2)).relative));
});
