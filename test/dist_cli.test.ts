/** `fornax train --nproc`: several processes on this machine, from start to end, interrupted, and with one killed. */
import assert from 'node:assert/strict';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { readSafetensors } from '#fornax/io/safetensors.js';

import { fornax, jsonLines, type CliOptions, type CliResult } from './support/cli.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';

let root: Awaited<ReturnType<typeof temporaryFolder>>;
const config = (): string => path.join(root.path, 'config.yaml');
const run = (name: string, ...parts: string[]): string => path.join(root.path, 'runs', name, ...parts);

before(async () => {
  root = await temporaryFolder();
  await writeColourFolder(path.join(root.path, 'images'));
  await fs.writeFile(
    config(),
    `model: {name: tiny_cnn, options: {dropout: 0.3}}
device: cpu
data: {path: images, cache: cache, resolution: 24}
run: {dir: runs}
train: {epochs: 8, batch_size: 4, lr: 0.05, amp: 'off'}
`,
  );
});
after(() => root[Symbol.asyncDispose]());

function train(name: string, args: readonly string[] = [], options: CliOptions = {}): Promise<CliResult> {
  const all = ['train', config(), '--name', name, '--nproc', '2', '--json', ...args];
  return fornax(all, { cwd: root.path, ...options });
}

async function weights(name: string): Promise<Record<string, unknown>> {
  const { tensors } = await readSafetensors(run(name, 'model.safetensors'));
  return Object.fromEntries([...tensors].map(([key, tensor]) => [key, [...tensor.toTypedArray()]]));
}

test('two processes train, are interrupted, and go on as if they had not been, dropout included', async () => {
  const undisturbed = await train('whole');
  assert.equal(undisturbed.code, 0, undisturbed.stderr);
  const events = jsonLines(undisturbed.stdout);
  const start = events.find(({ type }) => type === 'start')!;
  // 60 images in batches of 4 for each of two processes; the last one has 4.
  assert.equal(start['steps_per_epoch'], 8);
  assert.equal(events.filter(({ type }) => type === 'epoch').length, 8, 'rank 0 alone reports');
  assert.equal(events.find(({ type }) => type === 'epoch')!['samples'], 60);
  assert.ok(existsSync(run('whole', 'rank-1.log')));

  let sent = false;
  const interrupted = await train('parts', [], {
    onOutput: (text, send) => {
      if (sent || !text.includes('"steps"')) return;
      sent = true;
      send('SIGTERM');
    },
  });
  assert.equal(interrupted.code, 143, interrupted.stderr);
  const { checkpoint } = jsonLines(interrupted.stdout).find(({ type }) => type === 'interrupted')!;
  assert.ok(existsSync(checkpoint as string));
  assert.ok(!existsSync(run('parts', 'model.safetensors')));

  const alone = await fornax(['train', config(), '--name', 'parts', '--resume'], { cwd: root.path });
  assert.equal(alone.code, 1);
  assert.match(alone.stderr, /processes: 2 → 1/);

  const resumed = await train('parts', ['--resume']);
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.deepEqual(await weights('parts'), await weights('whole'));
});

test('two processes compute the same modules in bf16', async () => {
  const { code, stdout, stderr } = await train('mixed', [
    '--set',
    'train.precision={bf16: [conv2]}',
    '--set',
    'train.amp=auto',
  ]);
  assert.equal(code, 0, stderr);
  const told = jsonLines(stdout).filter(({ type }) => type === 'precision');
  assert.deepEqual(
    told.map(({ bf16, nodes, source }) => [bf16, nodes, source]),
    [[['conv2'], 3, 'configured']],
  );
  assert.notDeepEqual(await weights('mixed'), await weights('whole'));
});

/** The process that has this place among those of a run. */
async function findRank(name: string, rank: number): Promise<number> {
  for (const pid of await fs.readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const read = (file: string): Promise<string> =>
      fs.readFile(path.join('/proc', pid, file), 'utf8').catch(() => '');
    const [command, environment] = [await read('cmdline'), await read('environ')];
    if (command.split('\0').includes(name) && environment.split('\0').includes(`RANK=${rank}`)) {
      return Number(pid);
    }
  }
  throw new Error(`no process of rank ${rank}`);
}

test('a process that is killed ends the run at once, and its log is named', async () => {
  const name = `killed-${process.pid}`;
  let killed = 0;
  const started = await train(name, ['--epochs', '1000'], {
    onOutput: (text) => {
      if (killed > 0 || !text.includes('"steps"')) return;
      killed = performance.now();
      void findRank(name, 1).then((pid) => process.kill(pid, 'SIGKILL'));
    },
  });
  const seconds = (performance.now() - killed) / 1000;
  assert.equal(started.code, 1);
  assert.match(started.stderr, /the process of rank 1 was killed by SIGKILL/);
  assert.match(started.stderr, /rank-1\.log/);
  // Not after `dist.timeout`, half an hour.
  assert.ok(seconds < 120, `it took ${seconds} s`);
  await assert.rejects(findRank(name, 0), 'nobody is left');
});

test('signals to all processes of a job and a slow disk cost no checkpoint', async () => {
  const name = `slow-${process.pid}`;
  const slow = new URL('./support/slow_checkpoints.js', import.meta.url).href;
  let sent = false;
  const signalAll = async (send: (signal: NodeJS.Signals) => void): Promise<void> => {
    // As Slurm and systemd do: each process gets its own, and the one that the launcher passes on.
    for (const rank of [0, 1]) process.kill(await findRank(name, rank), 'SIGTERM');
    send('SIGTERM');
  };
  const { code, stdout, stderr } = await train(
    name,
    ['--epochs', '1000', '--set', 'checkpoint.every_epochs=1000', '--set', 'eval.every_epochs=1000'],
    {
      // Longer than the launcher waits for processes that hang.
      env: { NODE_OPTIONS: `--import ${slow}`, FORNAX_SLOW_CHECKPOINTS: '7' },
      onOutput: (text, send) => {
        if (sent || !text.includes('"steps"')) return;
        sent = true;
        void signalAll(send);
      },
    },
  );
  assert.equal(code, 143, stderr);
  const { checkpoint } = jsonLines(stdout).find(({ type }) => type === 'interrupted')!;
  assert.ok(existsSync(path.join(checkpoint as string, 'state.json')));
  assert.ok(!existsSync(run(name, '.lock')), 'rank 0 ended in good order');
});

test('a process that hangs ends the run after dist.timeout', async () => {
  const name = `hanging-${process.pid}`;
  let stopped = 0;
  const { code, stderr } = await train(name, ['--epochs', '1000', '--set', 'dist.timeout=12s'], {
    onOutput: (text) => {
      if (stopped > 0 || !text.includes('"steps"')) return;
      stopped = performance.now();
      void findRank(name, 1).then((pid) => process.kill(pid, 'SIGSTOP'));
    },
  });
  const seconds = (performance.now() - stopped) / 1000;
  assert.equal(code, 1, stderr);
  assert.match(stderr, /another process of this training has not answered for 12 s.*dist\.timeout/s);
  assert.ok(seconds > 8 && seconds < 120, `it took ${seconds} s: ${stderr}`);
  await assert.rejects(findRank(name, 1), 'nobody is left');
});

test('what one process alone can refuse is refused once, and no other waits', async () => {
  const refused = await train('refused', ['--set', 'model.num_classes=7']);
  assert.equal(refused.code, 2, refused.stderr);
  assert.equal(refused.stderr.match(/model.num_classes is 7/g)?.length, 1);
  const trial = await train('trial', ['--dry-run']);
  assert.equal(trial.code, 2);
  assert.match(trial.stderr, /one process/);
});
