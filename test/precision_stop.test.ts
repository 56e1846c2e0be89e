/** Stopping a training while the precision of its layers is measured. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { AbortedError } from '#fornax/errors.js';
import type { Config } from '#fornax/config/schema.js';
import { crossEntropy } from '#fornax/losses/index.js';
import { Model } from '#fornax/model.js';
import type { TrainOptions } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';

import { fornax } from './support/cli.js';
import { tinyRuns } from './support/tiny_runs.js';

const tiny = tinyRuns();
const addon = loadAddon();
const features = addon.systemInfo().cpu_features;
const skip = features.avx512_bf16 || features.amx_bf16 ? false : 'this CPU has no bf16 arithmetic';

const SHAPE = [64, 3, 64, 64];

/** A network that takes seconds to measure, trained long enough for that to be worth it. */
const config = (name: string): Config =>
  tiny.config(name, {
    model: { name: 'resnet18' },
    data: { path: tiny.images, cache: path.join(tiny.root, 'cache'), resolution: SHAPE[2]! },
    train: { amp: 'auto', epochs: 100_000, batchSize: 32 },
  });

/** Nothing of a training, and nothing half-written. */
async function assertNothingBegun(name: string): Promise<void> {
  const left = await fs.readdir(tiny.folder(name), { recursive: true }).catch(() => []);
  assert.deepEqual(
    left.filter((entry) => /checkpoints|decisions|model|summary|\.lock|\.tmp-/.test(entry)),
    [],
  );
}

test('a measurement ends when it is told to, at any time', { skip }, async () => {
  const model = Model.create('resnet18', { numClasses: 10, inputs: [SHAPE] });
  const parameters = model.native.state().flatMap(({ kind, name }) => (kind === 'parameter' ? [name] : []));
  const options: TrainOptions = {
    device: 'cpu',
    loss: crossEntropy(),
    optimizer: { name: 'sgd' },
    groups: [{ parameters, weight_decay: 0 }],
    schedule: { name: 'constant', lr: 0.1 },
    channels_last: true,
  };
  const request = { inputs: [{ shape: SHAPE, dtype: 'float32' as const }] };
  const stopped = { name: 'AbortedError', message: /the measurement was stopped/ };
  const [first, second] = [0, 1].map(() => addon.measurePrecision(model.native, options, request));
  // The second one waits for the first.
  second!.stop();
  setTimeout(() => first!.stop(), 50);
  await assert.rejects(first!.verdict, stopped);
  await assert.rejects(second!.verdict, stopped);
  first!.stop();
  model.dispose();
});

test('a job that is stopped while it measures is interrupted before its first step', { skip }, async () => {
  const controller = new AbortController();
  const { measurePrecision } = addon;
  let took = NaN;
  addon.measurePrecision = (...given) => {
    const measurement = measurePrecision(...given);
    setTimeout(() => {
      took = -performance.now();
      controller.abort(new AbortedError({ what: 'stopped' }));
    }, 50);
    return measurement;
  };
  try {
    const { outcome, events } = await tiny.run(config('stopped'), { signal: controller.signal });
    took += performance.now();
    assert.equal(outcome.status, 'interrupted');
    assert.equal(outcome.steps, 0);
    assert.ok(!events.some(({ type }) => type === 'start'));
  } finally {
    addon.measurePrecision = measurePrecision;
  }
  // On a quiet machine the rest of the measurement alone takes 3 s; here it may be many times slower.
  assert.ok(took < 30_000, `${took} ms`);
  await assertNothingBegun('stopped');
});

/** Sends the signal after a moment. False if training had begun by then. */
async function interruptedAfter(
  delay: number,
  name: string,
  signal: NodeJS.Signals,
  code: number,
): Promise<boolean> {
  const { model, data, run, train } = config(name);
  const yaml = path.join(tiny.root, `${name}.yaml`);
  await fs.writeFile(
    yaml,
    JSON.stringify({
      name,
      device: 'cpu',
      model: { name: model.name },
      data: { path: data!.path, cache: data!.cache, resolution: SHAPE[2] },
      run: { dir: run.dir },
      train: { epochs: train.epochs, batch_size: train.batchSize },
    }),
  );
  let sent = false;
  const result = await fornax(['train', yaml, '--json'], {
    onOutput: (text, send) => {
      if (sent || !text.includes('"type":"device"')) return;
      sent = true;
      setTimeout(() => send(signal), delay);
    },
  });
  assert.equal(result.code, code, result.stderr);
  if (result.stdout.includes('"type":"start"')) return false;
  await assertNothingBegun(name);
  return true;
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`${signal} meanwhile ends the command with exit code ${code}`, { skip }, async () => {
    // A fast machine has measured after a second.
    for (const delay of [1000, 300, 100, 30]) {
      if (await interruptedAfter(delay, `${signal.toLowerCase()}-${delay}`, signal, code)) return;
    }
    assert.fail('training began before the signal, however early that was');
  });
}
