/** The section `model` of a config: options of the architecture, checked like every other key. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { defineConfig, loadConfig } from '#fornax/config/load.js';
import type { Config } from '#fornax/config/schema.js';
import { configToYaml } from '#fornax/config/write.js';
import { TrainError } from '#fornax/errors.js';
import { Model } from '#fornax/model.js';
import { trainJob } from '#fornax/train/job.js';
import { folder, problems, yaml } from './support/config_files.js';

const good = 'data: {path: images}\n';
const load = (text: string): Config => loadConfig({ files: [yaml(good + text)] });
const broken = (text: string): string[] => problems({ files: [yaml(good + text)] });

describe('model.options', () => {
  it('are none unless given, and survive writing the config out', () => {
    assert.deepEqual(load('').model.options, {});
    const text = 'model:\n  name: resnet50\n  options: {stem: cifar, width: 0.5, zero_init_residual: true}\n';
    const config = load(text);
    assert.deepEqual(config.model.options, { stem: 'cifar', width: 0.5, zeroInitResidual: true });
    const written = configToYaml(config);
    assert.deepEqual((parse(written) as { model: { options: unknown } }).model.options, {
      stem: 'cifar',
      width: 0.5,
      zero_init_residual: true,
    });
    assert.deepEqual(loadConfig({ files: [yaml(written)] }), config);
  });

  it('may be set on the command line and in scripts', () => {
    const config = loadConfig({
      files: [yaml(good)],
      sets: ['model.name=mobilenet_v3_small', 'model.options={width: 0.5, reduced_tail: true}'],
    });
    assert.deepEqual(config.model.options, { width: 0.5, reducedTail: true });
    const scripted = defineConfig({ data: { path: 'd' }, model: { options: { outputStride: 8 } } });
    assert.deepEqual(scripted.model.options, { outputStride: 8 });
  });

  it('that the architecture does not have are reported with their line', () => {
    assert.deepEqual(broken('model:\n  name: vgg16\n  options:\n    dropuot: 0.1\n'), [
      '5:5 model.options.dropuot: vgg16 has no such option (did you mean "dropout"?)',
    ]);
    assert.deepEqual(broken('model: {name: resnet20, options: {dropout: 0.1}}\n'), [
      '2:35 model.options.dropout: resnet20 has no such option (resnet20 has no options)',
    ]);
    assert.deepEqual(broken('model: {options: {outputStride: 16, banana: 1}}\n'), [
      '2:19 model.options.outputStride: resnet18 has no such option (did you mean "output_stride"?)',
      '2:37 model.options.banana: resnet18 has no such option (it has: zero_init_residual, width, stem, output_stride)',
    ]);
    assert.deepEqual(broken('model: {name: resnet20, options: {constructor: 2}}\n').length, 1);
  });

  it('that are keys of their own are sent there', () => {
    assert.deepEqual(broken('model: {options: {num_classes: 10, in_channels: 1}}\n'), [
      '2:19 model.options.num_classes: resnet18 has no such option (set model.num_classes)',
      '2:36 model.options.in_channels: resnet18 has no such option (set data.channels)',
    ]);
  });

  it('with a wrong value say what is expected', () => {
    assert.deepEqual(broken('model: {options: {width: 0, stem: tiny, output_stride: 4}}\n'), [
      '2:26 model.options.width: expected a number from 0.01, got 0',
      '2:35 model.options.stem: expected one of imagenet, cifar, got "tiny"',
      '2:56 model.options.output_stride: expected one of 32, 16, 8, got 4',
    ]);
    assert.deepEqual(broken('model: {name: mobilenet_v3_small, options: {reduced_tail: 1}}\n'), [
      '2:59 model.options.reduced_tail: expected true or false, got 1',
    ]);
  });

  it('that contradict each other are refused', () => {
    assert.deepEqual(broken('model:\n  options: {stem: cifar, output_stride: 8}\n'), [
      "3:12 model.options: outputStride is for the stem 'imagenet', not for 'cifar'",
    ]);
  });

  it('belong to the model: another one drops them', () => {
    const below = yaml(`${good}model: {name: resnet18, options: {stem: cifar}}\n`);
    const named = loadConfig({ files: [below], sets: ['model.name=vgg16'] });
    assert.deepEqual(named.model.options, {});
    const same = loadConfig({ files: [below, yaml('model: {name: resnet18, options: {width: 2}}\n')] });
    assert.deepEqual(same.model.options, { stem: 'cifar', width: 2 });
    const unnamed = loadConfig({ files: [below, yaml('model: {options: {width: 2}}\n')] });
    assert.deepEqual(unnamed.model.options, { stem: 'cifar', width: 2 });
  });
});

describe('a run with model.options', () => {
  const config = (options: Record<string, number>): Config =>
    defineConfig({
      name: 'options',
      model: { name: 'tiny_cnn', options },
      data: { source: 'shapes', limit: 64, cache: join(folder, 'cache'), resolution: 16 },
      train: { epochs: 1, batchSize: 32 },
      device: 'cpu',
      run: { dir: join(folder, 'runs') },
    });

  it('builds the model with them, keeps them in the run, and does not go on with others', async () => {
    const { folder: run, modelPath } = await trainJob(config({ dropout: 0.25 }));
    using model = await Model.load(modelPath!);
    const dropouts = model.graph.nodes.filter(({ op }) => op === 'fornax::dropout');
    assert.deepEqual(
      dropouts.map(({ args }) => args[1]),
      [0.25],
    );
    assert.ok(existsSync(run));
    const kept = parse(readFileSync(join(run, 'config.yaml'), 'utf8')) as { model: { options: unknown } };
    assert.deepEqual(kept.model.options, { dropout: 0.25 });
    const longer = config({ dropout: 0.5 });
    longer.train.epochs = 2;
    await assert.rejects(trainJob(longer, { resume: true }), (error: TrainError) => {
      assert.ok(error instanceof TrainError);
      assert.match(error.message, /model\.options\.dropout: 0\.25 → 0\.5/);
      return true;
    });
  });
});
