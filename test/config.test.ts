import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { camelKey, snakeKey, toCamel, toSnake } from '#fornax/config/case.js';
import { allKeys, jsonSchema, type JsonSchema } from '#fornax/config/json_schema.js';
import { defineConfig, loadConfig } from '#fornax/config/load.js';
import { resolveNormalize } from '#fornax/config/normalize.js';
import { configToYaml } from '#fornax/config/write.js';
import type { ConfigError } from '#fornax/errors.js';
import { problems, yaml } from './support/config_files.js';

const good = 'data: {path: images}\n';

describe('a config', () => {
  it('needs only the folder of the images', () => {
    const config = loadConfig({ files: [yaml(good)] });
    assert.equal(config.name, 'resnet18-images');
    assert.equal(config.data.path, 'images');
    assert.equal(config.train.epochs, 10);
    assert.deepEqual(config.train.optimizer, { name: 'sgd', momentum: 0.9, nesterov: true });
    assert.deepEqual(config.device, { train: 'auto', eval: 'auto', export: 'cpu' });
  });

  it('spells out shorthands', () => {
    const config = loadConfig({
      files: [
        yaml(
          'data: {path: d, resolution: 96}\ntrain: {optimizer: adamw, schedule: one_cycle}\ndevice: cuda:1\n',
        ),
      ],
    });
    assert.deepEqual(config.data.resolution, [96, 96]);
    assert.deepEqual(config.train.optimizer, {
      name: 'adamw',
      betas: [0.9, 0.999],
      eps: 1e-8,
      amsgrad: false,
    });
    assert.equal(config.train.schedule.name, 'one_cycle');
    assert.deepEqual(config.device, { train: 'cuda:1', eval: 'cuda:1', export: 'cuda:1' });
  });

  it('derives the learning rate from the images of a step', () => {
    const rate = (train: string): number | 'auto' =>
      loadConfig({ files: [yaml(`${good}train: ${train}\n`)] }).train.lr;
    assert.equal(rate('{batch_size: 256}'), 0.1);
    assert.equal(rate('{batch_size: 64, grad_accum: 2}'), 0.05);
    assert.equal(rate('{optimizer: adamw}'), 0.001);
    assert.equal(rate('{optimizer: adamw, lr: 1e-4}'), 1e-4);
  });

  it('derives the mode of the monitored metric', () => {
    const mode = (monitor: string): string =>
      loadConfig({ files: [yaml(`${good}checkpoint: {monitor: ${monitor}}\n`)] }).checkpoint.mode;
    assert.equal(mode('top1'), 'max');
    assert.equal(mode('loss'), 'min');
  });

  it('written out in full reads back as the same config', () => {
    const config = loadConfig({
      files: [
        yaml(
          'name: a.b\ndata: {path: d, normalize: {mean: [0.5], std: [0.2]}}\ntrain: {schedule: one_cycle}\n',
        ),
      ],
    });
    assert.deepEqual(loadConfig({ files: [yaml(configToYaml(config))] }), config);
  });

  it('may use anchors and merge keys', () => {
    const config = loadConfig({
      files: [
        yaml(
          'data:\n  path: d\n  augment: &a {hflip: 0, padding: 2}\ntrain:\n  epochs: &n 7\neval:\n  every_epochs: *n\n',
        ),
      ],
    });
    assert.equal(config.eval.everyEpochs, 7);
    const merged = loadConfig({
      files: [yaml('data: {path: d, augment: {<<: {hflip: 0, padding: 2}, padding: 3}}\n')],
    });
    assert.equal(merged.data.augment.hflip, 0);
    assert.equal(merged.data.augment.padding, 3);
  });

  it('takes YAML 1.2: 1e-3 is a number, off and no are words', () => {
    const config = loadConfig({ files: [yaml(`${good}train: {lr: 1e-3, amp: off}\n`)] });
    assert.equal(config.train.lr, 0.001);
    assert.equal(config.train.amp, 'off');
  });
});

describe('several files and overrides', () => {
  it('later files win; maps are merged, lists replaced', () => {
    const config = loadConfig({
      files: [
        yaml('data: {path: d, augment: {hflip: 0, scale: [0.5, 1]}}\ntrain: {frozen: [a, b], epochs: 3}\n'),
        yaml('data: {augment: {scale: [0.2, 0.9]}}\ntrain: {frozen: [c]}\n'),
      ],
    });
    assert.equal(config.data.augment.hflip, 0);
    assert.deepEqual(config.data.augment.scale, [0.2, 0.9]);
    assert.deepEqual(config.train.frozen, ['c']);
    assert.equal(config.train.epochs, 3);
  });

  it('--set wins over files, an option of its own over --set', () => {
    const config = loadConfig({
      files: [yaml(`${good}train: {epochs: 3, batch_size: 8}\n`)],
      sets: [
        'train.epochs=4',
        'train.batch_size=16',
        'data.augment.scale=[0.3, 1]',
        'run.dir='.concat('"5"'),
      ],
      overrides: [{ key: 'train.epochs', option: '--epochs', value: 5 }],
    });
    assert.equal(config.train.epochs, 5);
    assert.equal(config.train.batchSize, 16);
    assert.deepEqual(config.data.augment.scale, [0.3, 1]);
    assert.equal(config.run.dir, '5');
  });

  it('a setting can be laid over an optimizer given by name or not at all', () => {
    const momentum = (text: string): unknown =>
      loadConfig({ files: [yaml(good + text)], sets: ['train.optimizer.momentum=0.5'] }).train.optimizer;
    const expected = { name: 'sgd', momentum: 0.5, nesterov: true };
    assert.deepEqual(momentum(''), expected);
    assert.deepEqual(momentum('train: {optimizer: sgd}\n'), expected);
  });

  it('another optimizer drops the settings of the one below', () => {
    const config = loadConfig({
      files: [yaml(`${good}train: {optimizer: {name: sgd, momentum: 0.5}}\n`)],
      sets: ['train.optimizer.name=adamw'],
    });
    assert.deepEqual(config.train.optimizer, {
      name: 'adamw',
      betas: [0.9, 0.999],
      eps: 1e-8,
      amsgrad: false,
    });
  });

  it('one phase can be moved off a device given for all', () => {
    const config = loadConfig({ files: [yaml(`${good}device: cuda\n`)], sets: ['device.eval=cpu'] });
    assert.deepEqual(config.device, { train: 'cuda', eval: 'cpu', export: 'cuda' });
  });

  it('errors of --set name the option', () => {
    assert.deepEqual(problems({ files: [yaml(good)], sets: ['train.lr'] }), [
      '--set train.lr expected key=value (for example --set train.batch_size=32)',
    ]);
    assert.deepEqual(problems({ files: [yaml(good)], sets: ['train.epoch=3'] }), [
      '--set train.epoch=3 train.epoch: unknown key (did you mean "epochs"?)',
    ]);
    assert.deepEqual(problems({ files: [yaml(good)], sets: ['train.epochs=many'] }), [
      '--set train.epochs=many train.epochs: expected a whole number from 1 to 100000, got "many"',
    ]);
    assert.match(
      problems({ files: [yaml(good)], sets: ['train.lr=[1'] })[0]!,
      /^--set train\.lr=\[1 train\.lr: Flow/,
    );
  });

  it('a problem in the second file is reported there', () => {
    const second = yaml('train:\n  lr: fast\n');
    assert.throws(
      () => loadConfig({ files: [yaml(good), second] }),
      (error: ConfigError) => error.where === `${second}:2:7`,
    );
  });
});

describe('a config from a script', () => {
  it('is written in camelCase', () => {
    const config = defineConfig({
      data: { path: 'd', valFraction: 0.2 },
      train: { batchSize: 8, optimizer: 'adamw' },
    });
    assert.equal(config.data.valFraction, 0.2);
    assert.equal(config.train.optimizer.name, 'adamw');
  });

  it('is checked like any other', () => {
    assert.throws(
      () => defineConfig({ data: { path: 'd', valFraction: 2 } }),
      /data\.val_fraction: expected a number/,
    );
  });
});

describe('key names', () => {
  it('survive the way to camelCase and back', () => {
    for (const path of allKeys()) for (const key of path) assert.equal(snakeKey(camelKey(key)), key);
    const value = { a_b: [{ c_d: 1, e: null }], f: 'g_h' };
    assert.deepEqual(toCamel(value), { aB: [{ cD: 1, e: null }], f: 'g_h' });
    assert.deepEqual(toSnake(toCamel(value)), value);
  });

  it('each have a description in the schema', () => {
    const visit = (schema: JsonSchema, path: string): void => {
      for (const part of [schema, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]) {
        for (const [key, child] of Object.entries(part.properties ?? {})) {
          if (child.const === undefined) assert.ok(child.description, `${path}.${key} has no description`);
          visit(child, `${path}.${key}`);
        }
      }
    };
    visit(jsonSchema(), '');
  });
});

describe('pixel statistics', () => {
  it('fit the number of channels', () => {
    assert.deepEqual(resolveNormalize('auto', 3).mean, [0.485, 0.456, 0.406]);
    assert.deepEqual(resolveNormalize('auto', 1), { mean: [0.5], std: [0.5] });
    assert.deepEqual(resolveNormalize('half', 3).std, [0.5, 0.5, 0.5]);
    assert.deepEqual(resolveNormalize({ mean: [0.1], std: [0.3] }, 3).mean, [0.1, 0.1, 0.1]);
  });

  it('come from the pretrained model where the config leaves them open', () => {
    const own = { mean: [0.1, 0.2, 0.3], std: [1, 1, 1] };
    assert.deepEqual(resolveNormalize('auto', 3, own), own);
    assert.deepEqual(resolveNormalize('none', 3, own), { mean: [0, 0, 0], std: [1, 1, 1] });
  });
});
