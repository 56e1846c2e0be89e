/** train, eval and predict as a user runs them, on a small folder of images. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';

import { readHeader } from '#fornax/io/safetensors_header.js';

import { cliPath, fornax, jsonLines, type CliOptions } from './support/cli.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

const run = promisify(execFile);
let root: Awaited<ReturnType<typeof temporaryFolder>>;
let options: CliOptions;
before(async () => {
  root = await temporaryFolder();
  await writeColourFolder(path.join(root.path, 'images'));
  options = { cwd: root.path, env: { FORNAX_CACHE: path.join(root.path, 'cache') } };
});
after(() => root[Symbol.asyncDispose]());

// Where figures are compared everything runs on the CPU.
const cpu = ['--device', 'cpu'];
const small = [...cpu, '--model', 'tiny_cnn', '--set', 'data.resolution=24', '--set', 'train.batch_size=8'];
const inRun = (...parts: string[]): string => path.join(root.path, 'runs', ...parts);

describe('fornax train --data DIR', () => {
  it('trains without a config and says where, how and what came of it', async () => {
    const { code, stdout, stderr } = await fornax(
      ['train', '--data', 'images', ...small, '--epochs', '3', '--set', 'train.lr=0.05'],
      options,
    );
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    assert.match(stdout, /^Training on cpu \(configured\)(, GPU available)?, fp32 \(amp auto: .+\)$/m);
    assert.match(
      stdout,
      /^tiny_cnn: 5,\d+ parameters, 3 classes; 60 images, 21 for validation; 3 epochs of 8 steps$/m,
    );
    assert.match(stdout, /^epoch 3\/3 {2}loss \d\.\d+ .* top-1 /m);
    assert.match(stdout, /^Done in .* top-1 \d+\.\d %/m);
    for (const name of ['config.yaml', 'events.jsonl', 'model.safetensors', 'summary.json', 'checkpoints']) {
      assert.ok(existsSync(inRun('tiny_cnn-images', name)), name);
    }
    assert.ok(!stdout.includes('\u001b'), 'no escape codes in a pipe');
    // The model file travels: it tells how it was trained, but of no folder.
    const { metadata } = await readHeader(inRun('tiny_cnn-images', 'model.safetensors'));
    const { config } = JSON.parse(metadata['provenance']!) as { config: Record<string, object> };
    assert.equal('resolution' in config['data']!, true);
    assert.deepEqual(
      ['path', 'cache'].filter((key) => key in config['data']!),
      [],
    );
    assert.equal('dir' in config['run']!, false);
  });

  it('writes a config that is valid and gives the same run', async () => {
    const { code, stdout } = await fornax(['train', inRun('tiny_cnn-images', 'config.yaml')], options);
    assert.equal(code, 0);
    assert.match(stdout, /Skipped: this run has its model already/);
    assert.ok(!stdout.includes('differs'), stdout);
  });

  it('skips a finished run, and trains it again with --force', async () => {
    const again = ['train', '--data', 'images', ...small, '--epochs', '1', '--json'];
    const skipped = await fornax(again, options);
    assert.equal(skipped.code, 0);
    assert.equal(jsonLines(skipped.stdout).at(-1)!['type'], 'skipped');
    const forced = await fornax([...again, '--force'], options);
    assert.equal(forced.code, 0, forced.stderr);
    const records = jsonLines(forced.stdout);
    assert.equal(forced.stderr, '');
    assert.equal(records.at(-1)!['type'], 'done');
    assert.ok(
      records.some(
        (record) => record['type'] === 'steps' && typeof record['samples_per_second'] === 'number',
      ),
    );
    assert.ok(existsSync(inRun('tiny_cnn-images', 'model.previous.safetensors')));
  });

  it('a wrong model or folder is an error with its reason', async () => {
    const model = await fornax(['train', '--data', 'images', '--model', 'resnet81'], options);
    assert.equal(model.code, 2);
    assert.match(
      model.stderr,
      /no model called "resnet81"\n {2}at: {2}--model resnet81\n {2}fix: did you mean "resnet18"/,
    );
    const data = await fornax(['train', '--data', 'nowhere', '--json'], options);
    assert.equal(data.code, 1);
    const record = jsonLines(data.stderr)[0]!;
    assert.equal(record['code'], 'FORNAX_DATA');
    assert.match(String(record['where']), /nowhere$/);
  });
});

describe('an interrupted training', () => {
  const long = ['train', '--data', 'images', ...small, '--set', 'train.lr=0.01'];

  /** Sends `signal` when training has begun. */
  const interruptedBy = (
    name: string,
    signal: NodeJS.Signals,
  ): Promise<Awaited<ReturnType<typeof fornax>>> => {
    let sent = false;
    return fornax([...long, '--name', name, '--epochs', '2000', '--json'], {
      ...options,
      onOutput: (text, send) => {
        if (sent || !text.includes('"type":"epoch"')) return;
        sent = true;
        send(signal);
      },
    });
  };

  it('by Ctrl-C writes a checkpoint, exits with 130 and can be resumed', async () => {
    const { code, stdout, stderr } = await interruptedBy('ctrl-c', 'SIGINT');
    assert.equal(code, 130, stderr);
    assert.match(
      stderr,
      /^Interrupted: finishing the step and writing a checkpoint \(Ctrl-C again stops at once\)$/m,
    );
    const last = jsonLines(stdout).at(-1)!;
    assert.equal(last['type'], 'interrupted');
    assert.ok(existsSync(String(last['checkpoint'])));
    assert.ok(!existsSync(inRun('ctrl-c', 'model.safetensors')));

    const begun = await fornax([...long, '--name', 'ctrl-c', '--epochs', '3'], options);
    assert.equal(begun.code, 1);
    assert.match(begun.stderr, /begun and not finished[\s\S]*--resume/);

    // As many epochs as were begun, so that little is left to do.
    const epochs = String(Number(readCheckpointEpoch('ctrl-c')) + 1);
    const resumed = await fornax(
      [...long, '--name', 'ctrl-c', '--epochs', epochs, '--resume', '--json'],
      options,
    );
    assert.equal(resumed.code, 0, resumed.stderr);
    const records = jsonLines(resumed.stdout);
    const start = records.find((record) => record['type'] === 'start')!;
    assert.equal(start['first_step'], last['step']);
    assert.ok(existsSync(inRun('ctrl-c', 'model.safetensors')));
  });

  it('by SIGTERM exits with 143 after a checkpoint', async () => {
    const { code, stdout } = await interruptedBy('term', 'SIGTERM');
    assert.equal(code, 143);
    assert.ok(existsSync(String(jsonLines(stdout).at(-1)!['checkpoint'])));
  });

  it('by a second SIGTERM writes its checkpoint all the same', async () => {
    let sent = 0;
    const { code, stdout, stderr } = await fornax(
      [...long, '--name', 'terminated-twice', '--epochs', '2000', '--json'],
      {
        ...options,
        onOutput: (text, send) => {
          if (sent === 0 && text.includes('"type":"steps"')) {
            sent = 1;
            send('SIGTERM');
          } else if (sent === 1 && text.includes('Terminated')) {
            sent = 2;
            send('SIGTERM');
          }
        },
      },
    );
    assert.equal(sent, 2, stderr);
    assert.equal(code, 143);
    assert.ok(existsSync(String(jsonLines(stdout).at(-1)!['checkpoint'])));
  });

  it('by a second Ctrl-C stops at once', async () => {
    let sent = 0;
    const { code, signal, stderr } = await fornax(
      [...long, '--name', 'twice', '--epochs', '2000', '--json'],
      {
        ...options,
        onOutput: (text, send) => {
          if (sent === 0 && text.includes('"type":"steps"')) {
            sent = 1;
            send('SIGINT');
          } else if (sent === 1 && text.includes('Interrupted')) {
            sent = 2;
            send('SIGINT');
          }
        },
      },
    );
    assert.equal(sent, 2, stderr);
    assert.deepEqual({ code, signal }, { code: 130, signal: null }, stderr);
  });

  it('by a reader that goes away ends without a stack trace', async () => {
    const script = `"${process.execPath}" "${cliPath}" train --data images ${small.join(' ')} --name gone --epochs 2000 --json | head -n 3; echo "code \${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await run('bash', ['-c', script], {
      cwd: root.path,
      env: { ...process.env, ...options.env },
    });
    assert.match(stdout, /code 1$/m);
    assert.equal(stderr, '');
  });

  it('--resume needs a checkpoint, --resume=auto does not', async () => {
    const none = await fornax([...long, '--name', 'fresh', '--epochs', '1', '--resume'], options);
    assert.equal(none.code, 1);
    assert.match(none.stderr, /nothing to resume[\s\S]*--resume=auto/);
    const auto = await fornax([...long, '--name', 'fresh', '--epochs', '1', '--resume=auto'], options);
    assert.equal(auto.code, 0, auto.stderr);
  });

  function readCheckpointEpoch(name: string): number {
    const newest = readdirSync(inRun(name, 'checkpoints'))
      .filter((entry) => entry.startsWith('step-'))
      .sort()
      .at(-1)!;
    const file = readFileSync(inRun(name, 'checkpoints', newest, 'state.json'), 'utf8');
    return (JSON.parse(file) as { state: { epoch: number } }).state.epoch;
  }
});

describe('with nothing but the model file', () => {
  let model: string;
  before(() => {
    model = path.join(root.path, 'alone.safetensors');
    copyFileSync(inRun('tiny_cnn-images', 'model.safetensors'), model);
  });

  it('eval gives the figures of the training', async () => {
    const { code, stdout, stderr } = await fornax(
      ['eval', model, ...cpu, '--data', 'images', '--json', '--confusion'],
      options,
    );
    assert.equal(code, 0, stderr);
    const record = jsonLines(stdout).at(-1)!;
    const summary = JSON.parse(readFileSync(inRun('tiny_cnn-images', 'summary.json'), 'utf8')) as {
      metrics: Record<string, number>;
    };
    assert.equal(record['top1'], summary.metrics['top1']);
    assert.equal(record['samples'], 21);
    const { f1 } = record['macro'] as { f1: number };
    assert.ok(f1 > 0 && f1 <= 1 && (record['auroc'] as number) > 0 && (record['ece'] as number) >= 0);
    const confusion = record['confusion'] as number[][];
    assert.deepEqual(
      confusion.map((row) => row.reduce((a, b) => a + b)),
      [7, 7, 7],
    );
    assert.deepEqual(
      (record['classes'] as { label: string }[]).map(({ label }) => label),
      ['blue', 'green', 'red'],
    );
  });

  it('bn writes a second model with other statistics, and not over a file', async () => {
    const output = path.join(root.path, 'other.safetensors');
    const args = [
      'bn',
      model,
      ...cpu,
      '--data',
      'images',
      '--batches',
      '2',
      '--batch-size',
      '8',
      '-o',
      output,
    ];
    const { code, stdout, stderr } = await fornax([...args, '--json'], options);
    assert.equal(code, 0, stderr);
    const record = jsonLines(stdout).at(-1)!;
    assert.deepEqual([record['layers'], record['batches'], record['samples']], [2, 2, 16]);
    assert.ok((record['after'] as number) >= 0 && (record['before'] as number) >= 0);
    assert.notDeepEqual(readFileSync(output), readFileSync(model));
    const again = await fornax(args, options);
    assert.equal(again.code, 2);
    assert.match(again.stderr, /there is a file already/);
  });

  it('eval prints a table of the classes', async () => {
    const { code, stdout } = await fornax(
      ['eval', inRun('tiny_cnn-images'), '--data', 'images', '--confusion'],
      options,
    );
    assert.equal(code, 0);
    assert.match(stdout, /^class +images +accuracy +F1 +most often taken for$/m);
    assert.match(stdout, /^green +7 +\d+\.\d %/m);
    assert.match(stdout, /^is \\ said +0 +1 +2$/m);
  });

  it('predict takes files, folders and patterns', async () => {
    const json = await fornax(
      ['predict', '--model', model, 'images/val/red', 'images/val/*/0.png', '--json', '--top', '2'],
      options,
    );
    assert.equal(json.code, 0, json.stderr);
    const records = jsonLines(json.stdout).filter((record) => record['type'] === 'prediction');
    assert.equal(records.length, 9);
    const best = records[0]!['predictions'] as { label: string; probability: number }[];
    assert.equal(best.length, 2);
    assert.ok(best[0]!.probability >= best[1]!.probability);
    const text = await fornax(['predict', '-m', model, 'images/val/red/0.png'], options);
    assert.match(text.stdout, /^images\/val\/red\/0\.png +(red|green|blue) +\d+\.\d %/m);
  });

  it('predict finds the newest model by itself and says which', async () => {
    const { code, stderr } = await fornax(['predict', 'images/val/red/0.png'], options);
    assert.equal(code, 0);
    assert.match(stderr, /^Using the newest model: runs\/.*model\.safetensors$/m);
  });

  it('predict reports an image that is none and goes on, with exit code 1', async () => {
    const broken = path.join(root.path, 'broken.jpg');
    writeFileSync(broken, 'no image');
    const { code, stdout, stderr } = await fornax(
      ['predict', '-m', model, broken, 'images/val/red/0.png'],
      options,
    );
    assert.equal(code, 1);
    assert.match(stdout, /broken\.jpg +not read: /);
    assert.match(stdout, /red\/0\.png/);
    assert.match(stderr, /1 image\(s\) could not be read/);
  });

  it('a model that is not there is named, with the runs that are', async () => {
    const { code, stderr } = await fornax(['eval', 'tiny_cnn-image', '--data', 'images'], options);
    assert.equal(code, 1);
    assert.match(stderr, /no such model file or run folder[\s\S]*did you mean "runs\/tiny_cnn-images"/);
    const empty = await fornax(['predict', 'red/0.png'], {
      ...options,
      cwd: path.join(root.path, 'images', 'val'),
    });
    assert.equal(empty.code, 2);
    assert.match(empty.stderr, /no model was named|No model was named/);
  });
});
