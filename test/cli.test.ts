import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import sharp from 'sharp';
import { spellOutResume } from '#fornax/cli/program.js';
import { findImages } from '#fornax/data/find_images.js';
import { chooseSettings, type Survey } from '#fornax/config/starter.js';
import { DataError } from '#fornax/errors.js';
import { cliPath, fornax, jsonLines } from './support/cli.js';

const folder = mkdtempSync(join(tmpdir(), 'fornax-cli-'));
after(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

/** A folder of `<class>/<n>.png` in plain colours. */
async function images(name: string, classes: Record<string, number>, size = [40, 30]): Promise<string> {
  const root = join(folder, name);
  for (const [label, count] of Object.entries(classes)) {
    mkdirSync(join(root, label), { recursive: true });
    for (let i = 0; i < count; i++) {
      await sharp({
        create: { width: size[0]!, height: size[1]!, channels: 3, background: { r: i * 20, g: 90, b: 200 } },
      })
        .png()
        .toFile(join(root, label, `${i}.png`));
    }
  }
  return root;
}

describe('fornax', () => {
  it('--help lists the commands and loads no heavy module', async () => {
    const script = `
      process.argv = [process.execPath, ${JSON.stringify(cliPath)}, '--help'];
      process.on('exit', () => {
        const loaded = process.report.getReport().sharedObjects.filter((name) => /fornax|sharp|torch|vips/.test(name));
        console.error(JSON.stringify(loaded));
      });
      await import(${JSON.stringify(cliPath)});`;
    const file = write('help.mjs', script);
    const { stdout, stderr, status } = spawnSync(process.execPath, [file], { encoding: 'utf8' });
    assert.equal(status, 0);
    for (const command of [
      'train',
      'eval',
      'predict',
      'bn',
      'init',
      'config',
      'models',
      'data',
      'quickstart',
      'doctor',
      'build',
    ]) {
      assert.match(stdout, new RegExp(`^  ${command}\\b`, 'm'));
    }
    assert.deepEqual(JSON.parse(stderr.trim()), [], 'no native library but Node’s own');
  });

  it('without arguments prints the help', async () => {
    const { code, stdout } = await fornax([]);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: fornax/);
  });

  it('--version prints the version of the package', async () => {
    const { stdout } = await fornax(['--version']);
    const file = new URL('../../../package.json', import.meta.url);
    assert.equal(stdout.trim(), (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version);
  });
});

describe('bad usage', () => {
  it('exits with 2, says what is wrong and suggests', async () => {
    const command = await fornax(['trian']);
    assert.equal(command.code, 2);
    assert.match(command.stderr, /unknown command 'trian'\n\(Did you mean train\?\)/);
    const option = await fornax(['train', '--epocs', '3']);
    assert.equal(option.code, 2);
    assert.match(option.stderr, /unknown option '--epocs'\n\(Did you mean --epochs\?\)/);
    const value = await fornax(['predict', 'x.png', '--top', 'many']);
    assert.equal(value.code, 2);
    assert.match(value.stderr, /Expected a whole number of at least 1/);
    assert.equal((await fornax(['eval'])).code, 2);
    assert.equal((await fornax(['config'])).code, 2);
  });

  it('with --json is one object on stderr', async () => {
    const { code, stdout, stderr } = await fornax(['train', '--epocs', '3', '--json']);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    const [record, ...rest] = jsonLines(stderr);
    assert.equal(rest.length, 0);
    assert.equal(record!['type'], 'error');
    assert.equal(record!['code'], 'FORNAX_USAGE');
  });

  it('train without config and data says what is missing', async () => {
    const { code, stderr } = await fornax(['train']);
    assert.equal(code, 2);
    assert.match(stderr, /data\.path: missing/);
    assert.match(stderr, /--data DIR/);
  });
});

describe('a bad config', () => {
  it('exits with 2 and lists every problem with its line', async () => {
    const file = write('bad.yaml', 'data: {path: d}\ntrain:\n  epocs: 3\n  lr: fast\n');
    const { code, stderr } = await fornax(['train', file]);
    assert.equal(code, 2);
    assert.match(
      stderr,
      new RegExp(`${file}:3:3 {2}train\\.epocs: unknown key \\(did you mean "epochs"\\?\\)`),
    );
    assert.match(
      stderr,
      new RegExp(`${file}:4:7 {2}train\\.lr: expected auto or a number above 0, got "fast"`),
    );
  });

  it('in --json carries the problems', async () => {
    const file = write('bad2.yaml', 'data: {path: d}\ntrian: {}\n');
    const { code, stderr } = await fornax(['config', 'validate', file, '--json']);
    assert.equal(code, 2);
    const record = jsonLines(stderr)[0]!;
    assert.equal(record['code'], 'FORNAX_CONFIG');
    assert.deepEqual(record['problems'], [
      {
        where: { file, line: 2, column: 1 },
        key: 'trian',
        message: 'unknown key',
        hint: 'did you mean "train"?',
      },
    ]);
  });

  it('from an option names the option', async () => {
    const { code, stderr } = await fornax(['train', '--data', 'd', '--epochs', 'x']);
    assert.equal(code, 2);
    assert.match(
      stderr,
      /train\.epochs: expected a whole number from 1 to 100000, got "x"\n {2}at: {2}--epochs x/,
    );
  });
});

describe('fornax config', () => {
  it('validate accepts a good config', async () => {
    const file = write('good.yaml', 'data: {path: d}\n');
    const { code, stdout } = await fornax(['config', 'validate', file]);
    assert.equal(code, 0);
    assert.match(stdout, /valid/);
  });

  it('validate accepts the examples', async () => {
    const examples = ['cifar10-resnet20', 'fashion-mnist', 'trashnet-resnet18'];
    for (const name of examples) {
      const file = new URL(`../../../examples/${name}.yaml`, import.meta.url).pathname;
      assert.equal((await fornax(['config', 'validate', file])).code, 0, name);
    }
  });

  it('show prints what a run would use', async () => {
    const base = write('base.yaml', 'data: {path: d}\ntrain: {epochs: 3, batch_size: 8}\n');
    const over = write('over.yaml', 'train: {epochs: 4}\n');
    const { stdout } = await fornax([
      'config',
      'show',
      base,
      '--config',
      over,
      '--set',
      'train.lr=0.5',
      '--json',
    ]);
    const { train } = JSON.parse(stdout) as { train: Record<string, unknown> };
    assert.deepEqual([train['epochs'], train['batch_size'], train['lr']], [4, 8, 0.5]);
  });

  it('schema prints a JSON Schema', async () => {
    const { stdout } = await fornax(['config', 'schema']);
    const schema = JSON.parse(stdout) as { $schema: string; properties: object };
    assert.match(schema.$schema, /json-schema/);
    assert.ok('train' in schema.properties);
  });
});

describe('--resume', () => {
  it('takes no value but =auto', () => {
    assert.deepEqual(spellOutResume(['train', '--resume', 'config.yaml']), [
      'train',
      '--resume=required',
      'config.yaml',
    ]);
    assert.deepEqual(spellOutResume(['train', 'c.yaml', '--resume']), [
      'train',
      'c.yaml',
      '--resume=required',
    ]);
    assert.deepEqual(spellOutResume(['train', '--resume=auto', 'c.yaml']), [
      'train',
      '--resume=auto',
      'c.yaml',
    ]);
    assert.deepEqual(spellOutResume(['train', '--resume', 'auto']), ['train', '--resume=auto']);
    assert.deepEqual(spellOutResume(['train', '--', '--resume']), ['train', '--', '--resume']);
  });

  it('with another value is bad usage', async () => {
    const { code, stderr } = await fornax(['train', '--resume=later', '--data', 'd']);
    assert.equal(code, 2);
    assert.match(stderr, /It is --resume or --resume=auto/);
  });
});

describe('fornax init', () => {
  let data: string;
  before(async () => {
    data = await images('animals', { cat: 8, dog: 2 });
  });

  it('writes a valid config fitted to the folder', async () => {
    const { code, stdout } = await fornax(['init', 'animals'], { cwd: folder });
    assert.equal(code, 0);
    assert.match(stdout, /2 classes, 10 training images, mostly about 40×30 pixels/);
    const text = readFileSync(join(folder, 'config.yaml'), 'utf8');
    assert.match(text, /^ {2}path: animals$/m);
    assert.match(text, /largest class has 4 times/);
    assert.match(text, /name: resnet20/);
    assert.equal((await fornax(['config', 'validate', 'config.yaml'], { cwd: folder })).code, 0);
  });

  it('does not overwrite a file unless told to', async () => {
    const again = await fornax(['init', 'animals'], { cwd: folder });
    assert.equal(again.code, 2);
    assert.match(again.stderr, /exists already/);
    assert.equal((await fornax(['init', 'animals', '--force'], { cwd: folder })).code, 0);
  });

  it('refuses a folder that holds no classes', async () => {
    const { code, stderr } = await fornax(['init', join(data, 'cat'), '--out', 'x.yaml'], { cwd: folder });
    assert.equal(code, 1);
    assert.match(stderr, /not in a folder per class/);
    assert.ok(!existsSync(join(folder, 'x.yaml')));
  });

  it('refuses a folder in which no image can be read', async () => {
    const broken = join(folder, 'broken');
    for (const name of ['a', 'b']) {
      mkdirSync(join(broken, name), { recursive: true });
      writeFileSync(join(broken, name, '1.jpg'), 'no image');
    }
    const { code, stderr } = await fornax(['init', 'broken', '--out', 'y.yaml'], { cwd: folder });
    assert.equal(code, 1);
    assert.match(stderr, /2 image files, but not one[^]*fix: `fornax data pack broken`/);
    assert.ok(!existsSync(join(folder, 'y.yaml')));
  });

  it('chooses by the size and number of the images', () => {
    const survey = (side: number, count: number): Survey => ({
      path: 'd',
      classes: 3,
      trainImages: count,
      valImages: null,
      imbalance: 1,
      median: { width: side, height: side },
    });
    const small = chooseSettings(survey(32, 50_000));
    assert.deepEqual([small.model, small.resolution, small.batchSize], ['resnet20', 32, 128]);
    const large = chooseSettings(survey(800, 300));
    assert.deepEqual(
      [large.model, large.resolution, large.batchSize, large.epochs],
      ['resnet18', 224, 32, 100],
    );
  });
});

describe('images on the command line', () => {
  let data: string;
  before(async () => {
    data = await images('found', { a: 2, B: 1 });
    writeFileSync(join(data, 'notes.txt'), 'no image');
  });

  it('are files, folders to any depth and patterns, each image once', async () => {
    assert.deepEqual(await findImages([join(data, 'a', '1.png')]), [join(data, 'a', '1.png')]);
    const all = [join(data, 'B', '0.png'), join(data, 'a', '0.png'), join(data, 'a', '1.png')];
    assert.deepEqual(await findImages([data]), all);
    assert.deepEqual(await findImages([`${data}/*/0.png`]), all.slice(0, 2));
    assert.deepEqual(await findImages([join(data, 'a', '0.png'), data]), [all[1], all[0], all[2]]);
    assert.deepEqual(await findImages([join(data, 'notes.txt')]), [join(data, 'notes.txt')]);
  });

  it('that are not there are named', async () => {
    await assert.rejects(findImages([join(data, 'a', '11.png')]), (error: DataError) =>
      /did you mean .*\.png/.test(error.fix!),
    );
    await assert.rejects(findImages([`${data}/*.jpg`]), DataError);
    mkdirSync(join(folder, 'empty'));
    await assert.rejects(findImages([join(folder, 'empty')]), /No JPEG, PNG or WebP/);
  });
});

describe('fornax models', () => {
  it('lists the zoo', async () => {
    const { stdout } = await fornax(['models', '--json']);
    const records = jsonLines(stdout);
    const names = records.map((record) => record['name']);
    for (const name of ['resnet18', 'resnet34', 'resnet50', 'resnet20', 'tiny_cnn'])
      assert.ok(names.includes(name));
    const resnet = records.find((record) => record['name'] === 'resnet18');
    assert.deepEqual(resnet, {
      type: 'model',
      name: 'resnet18',
      task: 'classification',
      parameters: 11_689_512,
      macs: 1_814_073_344,
      default_resolution: 224,
      default_classes: 1000,
      weights: [
        {
          name: 'imagenet1k_v1',
          publisher: 'torchvision',
          url: 'https://download.pytorch.org/models/resnet18-f37072fd.pth',
          metric: { name: 'top1', value: 0.69758 },
        },
      ],
      paper: 'He et al. 2015, arXiv:1512.03385',
    });
  });

  it('lists what matches a text, as a table', async () => {
    const { stdout } = await fornax(['models', '--filter', 'VGG16']);
    const [head, ...rows] = stdout.split('\n');
    assert.match(head!, /^model +task +parameters +MACs +made for +classes +weights$/);
    assert.match(
      rows[0]!,
      /^vgg16 +classification +138\.36 M +15\.47 G +224² +1000 +torchvision: imagenet1k_v1$/,
    );
    assert.match(stdout, /^3 models\./m);
    const byTask = jsonLines((await fornax(['models', '--filter', 'detection', '--json'])).stdout);
    assert.ok(byTask.length > 0 && byTask.every((record) => record['task'] === 'detection'));
    const none = await fornax(['models', '--filter', 'no such model']);
    assert.equal(none.code, 0);
    assert.equal(none.stdout, '');
    assert.match(none.stderr, /No architecture matches 'no such model'/);
  });

  it('show prints the layers of one', async () => {
    const { code, stdout } = await fornax([
      'models',
      'show',
      'resnet20',
      '--classes',
      '7',
      '--resolution',
      '64',
    ]);
    assert.equal(code, 0);
    assert.match(stdout, /^ *conv1 +conv2d +\[1, 16, 64, 64\] +432 /m);
    assert.match(stdout, /\[1, 7\]/);
    assert.match(stdout, /^paper +He et al\. 2015/m);
    assert.match(stdout, /^weights +akamaster: cifar10$/m);
    const options = await fornax(['models', 'show', 'resnet18']);
    assert.match(options.stdout, /^stem +imagenet +one of imagenet, cifar +/m);
    assert.match(options.stdout, /^output_stride +32 +one of 32, 16, 8 +/m);
    const set = ['--set', 'model.options.stem=cifar', '--set', 'model.options.width=0.5'];
    const small = await fornax(['models', 'show', 'resnet18', '--resolution', '32', ...set]);
    assert.match(small.stdout, /^ +conv1 +conv2d +\[1, 32, 32, 32\]/m);
    const wrong = await fornax(['models', 'show', 'resnet18', '--set', 'model.options.stem=tiny']);
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /expected one of imagenet, cifar/);
    assert.equal((await fornax(['models', 'show', 'resnet18', '--set', 'train.lr=1'])).code, 2);
    const small20 = await fornax(['models', 'show', 'alexnet', '--resolution', '20']);
    assert.equal(small20.code, 2);
    assert.match(small20.stderr, /alexnet cannot take images of 20 pixels: [^]*fix: [^]* takes 224/);
    const unknown = await fornax(['models', 'show', 'resnet21']);
    assert.equal(unknown.code, 2);
    assert.match(unknown.stderr, /did you mean/);
  });
});
