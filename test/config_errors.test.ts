/** What is said about a config that is not right. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadConfig } from '#fornax/config/load.js';
import type { ConfigError } from '#fornax/errors.js';
import { folder, problems, yaml } from './support/config_files.js';

const good = 'data: {path: images}\n';

describe('an unknown key', () => {
  const unknown = (text: string): string[] => problems({ files: [yaml(good + text)] });

  it('is reported with its line and the nearest key', () => {
    assert.deepEqual(unknown('train:\n  epochs: 3\n  batch_sise: 4\n'), [
      '4:3 train.batch_sise: unknown key (did you mean "batch_size"?)',
    ]);
    assert.deepEqual(unknown('trian: {}\n'), ['2:1 trian: unknown key (did you mean "train"?)']);
    assert.deepEqual(unknown('train: {batchSize: 3}\n'), [
      '2:9 train.batchSize: unknown key (did you mean "batch_size"?)',
    ]);
  });

  it('that belongs elsewhere is sent there', () => {
    assert.deepEqual(unknown('batch_size: 4\n'), [
      '2:1 batch_size: unknown key (did you mean "train.batch_size"?)',
    ]);
    assert.deepEqual(unknown('train: {hflip: 1}\n'), [
      '2:9 train.hflip: unknown key (did you mean "data.augment.hflip"?)',
    ]);
  });

  it('from another trainer is translated', () => {
    assert.deepEqual(unknown('train: {learning_rate: 1}\n'), [
      '2:9 train.learning_rate: unknown key (did you mean "lr"?)',
    ]);
    assert.deepEqual(unknown('imgsz: 4\n'), ['2:1 imgsz: unknown key (did you mean "data.resolution"?)']);
  });

  it('of another schedule shows the keys of this one', () => {
    assert.deepEqual(unknown('train:\n  schedule: {name: cosine, pct_start: 0.2}\n'), [
      '3:28 train.schedule.pct_start: unknown key (valid keys here: name, warmup_epochs, warmup_steps, min_lr, per)',
    ]);
  });

  it('like nothing known lists the keys there', () => {
    assert.deepEqual(unknown('run: {zzzzzzzz: 1}\n'), [
      '2:7 run.zzzzzzzz: unknown key (valid keys: dir, existing)',
    ]);
  });

  it('named __proto__ or constructor is just unknown', () => {
    assert.match(unknown('__proto__: {a: 1}\n')[0]!, /^2:1 __proto__: unknown key/);
    assert.match(unknown('train: {constructor: 1}\n')[0]!, /^2:9 train\.constructor: unknown key/);
    assert.match(problems({ files: [yaml(good)], sets: ['__proto__.x=1'] })[0]!, /__proto__: unknown key/);
    assert.equal(({} as Record<string, unknown>)['a'], undefined);
  });
});

describe('a wrong value', () => {
  const wrong = (text: string): string[] => problems({ files: [yaml(good + text)] });
  const cases: [string, string][] = [
    ['train: {epochs: 0}', '2:17 train.epochs: expected a whole number from 1 to 100000, got 0'],
    ['train: {epochs: 1.5}', '2:17 train.epochs: expected a whole number from 1 to 100000, got 1.5'],
    ['train: {lr: -1}', '2:13 train.lr: expected auto or a number above 0, got -1'],
    ['train: {lr: .nan}', '2:13 train.lr: expected auto or a number above 0, got NaN'],
    ['train: {lr: .inf}', '2:13 train.lr: expected auto or a number above 0, got Infinity'],
    ['train: {tf32: maybe}', '2:15 train.tf32: expected true or false, got "maybe"'],
    [
      'train: {amp: fp61}',
      '2:14 train.amp: expected one of auto, off, bf16 or fp16, got "fp61" (did you mean "fp16"?)',
    ],
    ['train: {frozen: layer1}', '2:17 train.frozen: expected a list, each a text, got "layer1"'],
    ['train: {frozen: [a, 3]}', '2:21 train.frozen[1]: expected a text, got 3'],
    [
      'train: 3',
      '2:8 train: expected a map with epochs, batch_size, lr, optimizer, weight_decay, decay_norm_and_bias, …, got 3',
    ],
    [
      'train: {optimizer: {name: sdg}}',
      '2:27 train.optimizer.name: expected one of sgd, adam, adamw, rmsprop, adagrad, radam, nadam, lion, lamb or lars, got "sdg" (did you mean "sgd"?)',
    ],
    [
      'train: {optimizer: {name: adamw, eps: 0}}',
      '2:39 train.optimizer.eps: expected a number above 0, got 0',
    ],
    [
      'device: gpu',
      '2:9 device: expected a device (auto, cpu, cuda, cuda:1) or a map with train, eval, export, got "gpu"',
    ],
    ['device: {eval: gpu}', '2:16 device.eval: expected auto, cpu, cuda or cuda:<number>, got "gpu"'],
    ['name: ../x', '2:7 name: expected letters, digits, ".", "_" and "-", got "../x"'],
  ];
  for (const [text, expected] of cases) {
    it(text, () => assert.deepEqual(wrong(text + '\n'), [expected]));
  }

  it('in a list is found at its own place', () => {
    assert.deepEqual(
      problems({ files: [yaml('data:\n  path: d\n  augment:\n    scale:\n      - 0.1\n      - 2\n')] }),
      ['6:9 data.augment.scale[1]: expected a number above 0 and at most 1, got 2'],
    );
    assert.deepEqual(problems({ files: [yaml('data: {path: d, augment: {scale: [1]}}\n')] }), [
      '1:34 data.augment.scale: expected a list of 2, each a number above 0 and at most 1, got [1]',
    ]);
  });

  it('missing inside a map is reported at the map', () => {
    assert.deepEqual(problems({ files: [yaml('data:\n  path: d\n  normalize:\n    mean: [0.5]\n')] }), [
      '3:3 data.normalize.std: missing; expected a list, each a number above 0',
    ]);
  });
});

describe('rules between keys', () => {
  const broken = (text: string): string[] => problems({ files: [yaml(text)] });

  it('a source that cannot be guessed needs a path', () => {
    assert.deepEqual(broken('data: {source: folder}\n'), [
      '1:1 data.path: missing; expected the folder of the images (name it here, or give --data DIR on the command line)',
    ]);
    assert.equal(loadConfig({ files: [yaml('data: {source: shapes}\n')] }).name, 'resnet18-shapes');
  });

  it('the model must be one of the zoo', () => {
    assert.deepEqual(broken(`${good}model:\n  name: resnet81\n`), [
      '3:9 model.name: there is no model called "resnet81" (did you mean "resnet18"?)',
    ]);
  });

  it('contradictions are refused', () => {
    assert.deepEqual(broken(`${good}train: {optimizer: {name: sgd, momentum: 0}}\n`), [
      '2:9 train.optimizer.nesterov: Nesterov momentum needs a momentum above 0 (set nesterov: false)',
    ]);
    assert.deepEqual(broken(`${good}train: {epochs: 3, schedule: {name: cosine, warmup_epochs: 3}}\n`), [
      '2:60 train.schedule.warmup_epochs: expected less than train.epochs (3), got 3',
    ]);
    assert.deepEqual(broken(`${good}train: {lr: 0.1, schedule: {name: cosine, min_lr: 1}}\n`), [
      '2:51 train.schedule.min_lr: expected at most train.lr (0.1), got 1',
    ]);
    assert.deepEqual(broken(`${good}train: {amp: fp16}\ndevice: cpu\n`), [
      '2:14 train.amp: fp16 needs CUDA, but device.train is cpu (use bf16, off or auto)',
    ]);
    assert.deepEqual(broken(`${good}train: {cuda_graphs: on}\ndevice: cpu\n`), [
      '2:22 train.cuda_graphs: CUDA graphs need CUDA, but device.train is cpu (use auto or off)',
    ]);
    assert.deepEqual(broken(`${good}train: {mix_prob: 0.5}\n`), [
      '2:9 train.mix_prob: nothing is mixed (give train.mixup or train.cutmix, or leave it out)',
    ]);
    assert.deepEqual(broken(`${good}train: {mixup: 1, mix_switch_prob: 0.2}\n`), [
      '2:19 train.mix_switch_prob: there is nothing to switch to (give both mixup and cutmix, or leave it out)',
    ]);
    assert.deepEqual(broken(`${good}train: {epochs: 3, mixup: 1, mix_epochs: 4}\n`), [
      '2:42 train.mix_epochs: expected at most train.epochs (3), got 4',
    ]);
    assert.deepEqual(
      broken(
        `${good}train: {schedule: {name: one_cycle, three_phase: true, pct_start: 0.8, cycle_momentum: true, base_momentum: 0.97}}\n`,
      ),
      [
        '2:67 train.schedule.pct_start: expected at most 0.5 with three_phase, whose first two phases are as long as each other, got 0.8 (lower it, or set three_phase: false)',
        '2:109 train.schedule.base_momentum: expected at most max_momentum (0.95), got 0.97',
      ],
    );
    assert.deepEqual(broken(`${good}train: {epochs: 2, swa: {start: 1, interval: 5}}\n`), [
      '2:46 train.swa.interval: no weights would be averaged: the first ones are those after epoch 6, and train.epochs is 2 (let swa.start be earlier, make the interval shorter, or train longer)',
    ]);
    assert.deepEqual(broken('data: {path: d, train: a, val: a}\n'), [
      '1:32 data.val: the training images ("a") cannot be the validation images too',
    ]);
    assert.deepEqual(broken('data: {path: d, augment: {ratio: [2, 1]}}\n'), [
      '1:34 data.augment.ratio: expected [smallest, largest], got [2, 1]',
    ]);
    assert.deepEqual(broken('data: {path: d, normalize: {mean: [0, 0], std: [1, 1, 1]}, channels: 3}\n'), [
      '1:35 data.normalize.mean: expected one number for each channel (3), got 2',
    ]);
  });
});

describe('a loss that no data of a config can feed', () => {
  it('is refused where it is named', () => {
    const said = (loss: string): string[] => problems({ files: [yaml(`${good}train: {loss: ${loss}}\n`)] });
    assert.match(said('dice')[0]!, /^2:15 train\.loss: dice needs masks.*memoryData\(\)/);
    assert.match(
      said('[cross_entropy, {name: mse, weight: 2}]')[0]!,
      /^2:31 train\.loss\[1\]: mse needs numbers/,
    );
  });
});

describe('a number where a section belongs', () => {
  it('is not made good by what is laid over it', () => {
    const file = yaml('data: {path: images}\ntrain: 3\n');
    const override = { key: 'train.epochs', option: '--epochs', value: 1 };
    for (const sources of [
      { files: [file], overrides: [override] },
      { files: [yaml('data: {path: images}\ntrain: {epochs: 7}\n'), file], sets: ['train.epochs=1'] },
    ]) {
      assert.match(problems(sources)[0]!, /^2:8 train: expected a map .* got 3$/);
    }
  });
});

describe('a broken file', () => {
  const broken = (text: string): string => problems({ files: [yaml(text)] })[0]!;

  it('is reported with the line that YAML stumbles over', () => {
    assert.equal(broken('train:\n\tepochs: 1\n'), '2:1 a tab in the indentation; YAML takes spaces only');
    assert.equal(broken('train:\n  epochs: 1\n  epochs: 2\n'), '3:3 this key stands twice in the same map');
    assert.match(broken('train: {epochs: 1\n'), /^2:1 Flow map/);
    assert.equal(broken('a: 1\n---\nb: 2\n'), '2:1 more than one YAML document in the file');
    assert.equal(broken('train: !foo 3\n'), '1:8 Unresolved tag: !foo');
    assert.match(broken('train: *x\n'), /^1:8 .*x/);
    assert.equal(broken('- 1\n'), '1:1 expected a map of keys, such as "train:"');
  });

  it('that holds itself, or grows without end, is refused', () => {
    assert.match(broken('train: &a [*a]\n'), /an anchor may hold itself/);
    const bomb = ['a: &a0 [x, x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 9; i++) bomb.push(`b${i}: &a${i} [${new Array(10).fill(`*a${i - 1}`).join(', ')}]`);
    assert.match(broken(bomb.join('\n') + '\n'), /too large/);
  });

  it('that does not exist is named', () => {
    const file = join(folder, 'none.yaml');
    assert.throws(
      () => loadConfig({ files: [file] }),
      (error: ConfigError) => error.where === file && /no such/.test(error.what),
    );
    assert.throws(() => loadConfig({ files: [folder] }), /cannot be read \(EISDIR\)/);
  });

  it('with several problems lists them all, in order', () => {
    const text = 'data:\n  path: 3\ntrain:\n  lr: x\n  epochz: 1\nnme: a\n';
    assert.deepEqual(
      problems({ files: [yaml(text)] }).map((line) => line.split(' ')[0]),
      ['2:9', '4:7', '5:3', '6:1'],
    );
  });
});
