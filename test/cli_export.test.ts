/** `fornax export`, run as a user would. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { Model } from '#fornax/model.js';
import { init, Linear, Module, type Tensor as Symbolic } from '#fornax/nn/index.js';

import { fornax, jsonLines } from './support/cli.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
before(async () => {
  root = await temporaryFolder();
  using model = Model.create('tiny_cnn', {
    numClasses: 3,
    inputs: [[1, 3, 32, 32]],
    labels: ['blue', 'green', 'red'],
    preprocessing: {
      channels: 3,
      pack_size: null,
      resize: 32,
      size: [32, 32],
      normalize: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
    },
  });
  // As a run leaves it.
  const run = path.join(root.path, 'runs', 'first');
  await fs.mkdir(run, { recursive: true });
  await model.save(path.join(run, 'model.safetensors'));
  await writeColourFolder(path.join(root.path, 'images'), { train: 1, val: 0 });
});
after(() => root[Symbol.asyncDispose]());

const run = (...args: string[]): ReturnType<typeof fornax> => fornax(['export', ...args], { cwd: root.path });

test('exports the model of a run under its name and reports each check', async () => {
  const { code, stdout, stderr } = await run('runs/first', '--format', 'pth,torchscript,onnx', '-o', 'out');
  assert.equal(code, 0, stderr);
  assert.deepEqual((await fs.readdir(path.join(root.path, 'out'))).sort(), [
    'first.onnx',
    'first.pt',
    'first.pth',
  ]);
  assert.match(stdout, /Input: image float32 \[batch, 3, height, width\]/);
  assert.match(stdout, /Checked with 2 samples of noise/);
  assert.match(stdout, /^pth {10}out\/first\.pth {2}.*equal to the last bit/m);
  assert.match(stdout, /^onnx {9}out\/first\.onnx {2}.*, by /m);
});

test('--json gives one object for each format; images are used where they are given', async () => {
  const { code, stdout } = await run(
    ...['first', '--format', 'safetensors', '--format', 'torchscript', '--preprocess'],
    ...['--images', 'images', '--json', '--out', 'json', '--name', 'colours'],
  );
  assert.equal(code, 0);
  const lines = jsonLines(stdout) as {
    format: string;
    file: string;
    passed: boolean;
    check: { samples: number; inputs: string; relative: number };
  }[];
  assert.deepEqual(
    lines.map(({ format }) => format),
    ['safetensors', 'torchscript'],
  );
  for (const { passed, file, check } of lines) {
    assert.equal(passed, true);
    assert.match(file, /^json\/colours\./);
    assert.equal(check.inputs, 'images');
    assert.equal(check.samples, 3);
    assert.ok(check.relative <= 1e-5);
  }
});

test('an architecture needs weights; untrained ones have to be asked for', async () => {
  const without = await run('tiny_cnn', '--format', 'pth');
  assert.equal(without.code, 2);
  assert.match(without.stderr, /it has no weights yet[^]*--weights/);
  const { code } = await run('tiny_cnn', '--weights', 'random', '--format', 'pth', '--out', 'zoo/net.pth');
  assert.equal(code, 0);
  // The weights that were written are weights that can be read.
  const again = await run('tiny_cnn', '--weights', 'zoo/net.pth', '--format', 'onnx', '--out', 'zoo');
  assert.equal(again.code, 0, again.stderr);
  assert.deepEqual((await fs.readdir(path.join(root.path, 'zoo'))).sort(), ['net.pth', 'tiny_cnn.onnx']);
  assert.doesNotMatch(again.stdout + again.stderr, /as it was drawn/);
  // An untrained classifier is nothing to deploy unawares.
  const four = ['--classes', '4', '--format', 'pth', '--out', 'four'];
  const drawn = await run('tiny_cnn', '--weights', 'zoo/net.pth', ...four);
  assert.equal(drawn.code, 0, drawn.stderr);
  assert.match(drawn.stdout + drawn.stderr, /the classifier stays as it was drawn: fc\.weight \(10 → 4\)/);
});

test('weights that do not fit are refused, unless `--no-strict` takes what fits', async () => {
  await run('tiny_cnn', '--weights', 'random', '--format', 'pth', '--out', 'strict/net.pth');
  const grey = [
    'tiny_cnn',
    '--weights',
    'strict/net.pth',
    '--channels',
    '1',
    '--format',
    'pth',
    '--out',
    'grey',
  ];
  const strict = await run(...grey);
  assert.equal(strict.code, 1);
  assert.match(strict.stderr, /do not fit the model[^]*fix: .*pass --no-strict/);
  const some = await run(...grey, '--no-strict');
  assert.equal(some.code, 0, some.stderr);
  assert.match(some.stdout + some.stderr, /1 of another shape, drawn anew/);
  const got = await fornax(['models', 'get', 'resnet20', '--weights', 'strict/net.pth'], { cwd: root.path });
  assert.equal(got.code, 1);
  assert.match(got.stderr, /none of the tensors|pass --no-strict/);
});

test('`fornax models show` finds a run by its name, but never in place of an architecture', async () => {
  using model = Model.create('tiny_cnn', { seed: 1, numClasses: 6 });
  for (const name of ['mine', 'resnet20']) {
    await fs.mkdir(path.join(root.path, 'runs', name), { recursive: true });
    await model.save(path.join(root.path, 'runs', name, 'model.safetensors'));
  }
  const show = (name: string): ReturnType<typeof fornax> =>
    fornax(['models', 'show', name], { cwd: root.path });
  for (const name of ['mine', 'runs/mine', 'runs/resnet20']) {
    const { code, stdout, stderr } = await show(name);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^tiny_cnn\n[^]*\[1, 6\]/);
  }
  assert.match((await show('resnet20')).stdout, /^resnet20\n/);
  const none = await show('runs/nothing');
  assert.match(none.stderr, /no such model file or run folder/);
});

test('a segmentation model is told that predict and eval do not take it yet', async () => {
  using model = Model.create('unet_tiny', { inputs: [[1, 3, 32, 32]] });
  await model.save(path.join(root.path, 'segmenter.safetensors'));
  const { code, stderr } = await fornax(['predict', 'images', '--model', 'segmenter.safetensors'], {
    cwd: root.path,
  });
  assert.equal(code, 1);
  assert.match(stderr, /do not take segmentation models yet/);
});

test('an untrained head of zeros is exported, but its check is not called passed', async () => {
  class Untrained extends Module {
    readonly fc = new Linear(3, 2);
    constructor() {
      super();
      init.zeros(this.fc.weight);
    }
    forward(x: Symbolic): Symbolic {
      return this.fc.forward(x);
    }
  }
  using model = Model.create(new Untrained(), { inputs: [[2, 3]] });
  await model.save(path.join(root.path, 'untrained.safetensors'));
  const words = await run('untrained.safetensors', '--format', 'onnx,pth', '--out', 'untrained');
  assert.equal(words.code, 0, words.stderr);
  assert.match(words.stdout, /^onnx .*check inconclusive: .*'output' hardly depends on the input/m);
  assert.match(words.stdout, /^pth .*equal to the last bit/m);
  const { code, stdout } = await run(
    'untrained.safetensors',
    '--format',
    'onnx',
    '--json',
    '-o',
    'untrained',
  );
  assert.equal(code, 0);
  const [record] = jsonLines(stdout) as { passed: boolean; check: Record<string, unknown> }[];
  assert.equal(record!.passed, false);
  assert.equal(record!.check['conclusive'], false);
  assert.deepEqual(record!.check['unmoved'], ['output']);
});

test('`fornax models get` says in words or in JSON what it wrote', async () => {
  using model = Model.create('tiny_cnn', { seed: 2 });
  await model.save(path.join(root.path, 'weights.safetensors'));
  const get = (...args: string[]): ReturnType<typeof fornax> =>
    fornax(['models', 'get', 'tiny_cnn', '--weights', 'weights.safetensors', ...args], { cwd: root.path });
  const words = await get('--out', 'got.safetensors');
  assert.match(words.stdout, /`fornax export` takes it; `predict` and `eval` do not/);
  const { stdout } = await get('--out', 'got.json.safetensors', '--json');
  const record = jsonLines(stdout).at(-1)! as { type: string; path: string };
  assert.deepEqual([record.type, record.path], ['model_file', 'got.json.safetensors']);
});

test('a format that cannot hold the model fails, the others are written', async () => {
  class Odd extends Module {
    readonly class = new Linear(3, 2);
    forward(x: Symbolic): Symbolic {
      return this.class.forward(x);
    }
  }
  using model = Model.create(new Odd(), { inputs: [[2, 3]] });
  await model.save(path.join(root.path, 'odd.safetensors'));
  const { code, stdout } = await run('odd.safetensors', '--format', 'torchscript,pth', '--out', 'odd');
  assert.equal(code, 1);
  assert.match(stdout, /^torchscript {2}failed: .*'class' is a reserved word/m);
  assert.match(stdout, /^pth .*odd\/odd\.pth/m);
  assert.deepEqual(await fs.readdir(path.join(root.path, 'odd')), ['odd.pth']);
});

test('the model file that is exported is never replaced by its weights alone', async () => {
  const file = path.join(root.path, 'own.safetensors');
  await fs.copyFile(path.join(root.path, 'runs', 'first', 'model.safetensors'), file);
  const { code, stderr } = await run('own.safetensors', '--format', 'safetensors');
  assert.equal(code, 1);
  assert.match(stderr, /would replace the model file/);
  (await Model.load(file)).dispose();
  await fs.rm(file);
});

test('bad command lines', async () => {
  const bad: [string[], number, RegExp][] = [
    [['runs/first'], 2, /--format/],
    [['runs/first', '--format', 'onnxx'], 2, /did you mean 'onnx'/],
    [['runs/first', '--format', ','], 2, /names with commas/],
    [['runs/first', '--format', 'pth', '--resolution', '3x4x5'], 2, /<height>x<width>/],
    [['runs/first', '--format', 'pth', '--weights', 'default'], 2, /are for architectures/],
    [['runs/none', '--format', 'pth'], 1, /no such model file/],
    [['resnet81', '--format', 'pth'], 2, /did you mean 'resnet/],
    [['runs/first', '--format', 'pth', '--device', 'tpu'], 1, /unknown device 'tpu'/],
    [['runs/first', '--format', 'pth', '--images', 'none'], 1, /no such file/],
  ];
  for (const [args, expected, message] of bad) {
    const { code, stderr } = await run(...args);
    assert.equal(code, expected, args.join(' '));
    assert.match(stderr, message);
  }
});

test('the model of a run is checked with images of its data, where they still are', async () => {
  const config = path.join(root.path, 'runs', 'first', 'config.yaml');
  const data = path.join(root.path, 'data');
  await writeColourFolder(data, { train: 1, val: 2 });
  // Training left broken images out too.
  await fs.writeFile(path.join(data, 'val', 'red', '0.png'), 'no image');
  const exported = async (section: object): Promise<string> => {
    await fs.writeFile(config, JSON.stringify({ data: section }));
    const { code, stdout, stderr } = await run('runs/first', '--format', 'onnx', '--out', 'of-data');
    assert.equal(code, 0, stderr);
    return stdout + stderr;
  };
  const found = await exported({ source: 'auto', path: 'data', train: 'train', val: 'auto' });
  assert.match(found, /takes 5 images of the run's data, from data\/val$/m);
  assert.match(found, /Checked with 5 images/);
  // A share of the training images was held out.
  assert.match(
    await exported({ source: 'folder', path: 'data', val: null }),
    /takes 3 images .*data\/train$/m,
  );
  const reasons: [object, RegExp][] = [
    [{ source: 'auto', path: 'gone' }, /takes noise: the run's data is not at gone any more \(--images/],
    [{ source: 'idx', path: null }, /takes noise: the run's data is no folder of images/],
    [{ source: 'shapes', cache: 'empty' }, /takes noise: the run's data is not at .*empty.*shapes/],
  ];
  for (const [section, reason] of reasons) {
    const output = await exported(section);
    assert.match(output, reason);
    assert.match(output, /Checked with 2 samples of noise/);
  }
  assert.ok(!(await fs.readdir(root.path)).includes('empty'));
  await fs.rm(config);
});

test('device.export of the run is where its model is checked', async () => {
  const config = path.join(root.path, 'runs', 'first', 'config.yaml');
  await fs.writeFile(config, 'device:\n  train: cuda\n  export: nowhere\n');
  const { code, stderr } = await run('first', '--format', 'pth', '--out', 'out');
  assert.equal(code, 1);
  assert.match(stderr, /unknown device 'nowhere'/);
  const named = await run('first', '--format', 'pth', '--out', 'out', '--device', 'cpu');
  assert.equal(named.code, 0);
  await fs.rm(config);
});
