/** Runs that are short of memory: told at the start, halved on the way, the same when resumed. */
import assert from 'node:assert/strict';
import { promises as fs } from 'node:fs';
import path from 'node:path';
import { afterEach, test } from 'node:test';
import { parse } from 'yaml';

import type { Config, ConfigInput } from '#fornax/config/schema.js';
import { ConfigError, DeviceError } from '#fornax/errors.js';
import { evaluateModel } from '#fornax/eval/evaluate.js';
import { loadAddon } from '#fornax/native.js';
import type { JobEvent, MemoryEvent, OutOfMemoryEvent } from '#fornax/train/events.js';
import { dryRun } from '#fornax/train/trial.js';

import { weightsOf } from './support/run_results.js';
import { tinyRuns } from './support/tiny_runs.js';

const addon = loadAddon();
const tiny = tinyRuns();
const { config, run } = tiny;
afterEach(() => addon.failCpuAllocations(null));

/** Larger than any buffer of the loader, smaller than the activations of a batch. */
const ACTIVATION = 100_000;

function find<Type extends JobEvent['type']>(
  events: readonly JobEvent[],
  type: Type,
): Extract<JobEvent, { type: Type }> | undefined {
  return events.find((event) => event.type === type) as Extract<JobEvent, { type: Type }> | undefined;
}

/** Lets an allocation of the training fail, some steps after its start. */
function failAfterStart(event: JobEvent): void {
  if (event.type === 'start') addon.failCpuAllocations({ first: 15, min_bytes: ACTIVATION });
}

test('a run tells at its start what a step takes, and at its end what it took', async () => {
  const { events, outcome } = await run(config('told'));
  const memory: MemoryEvent = find(events, 'memory')!;
  assert.equal(memory.rows, 8);
  assert.equal(memory.fits, true);
  assert.match(
    memory.message,
    /^Memory: .* for a step on 8 images \(weights .*, gradients .*, optimizer .*, activa/,
  );
  const { peakMemory } = find(events, 'done')!;
  assert.ok(peakMemory! >= memory.weights + memory.optimizer + memory.activations);
  const log = await fs.readFile(path.join(outcome.folder, 'events.jsonl'), 'utf8');
  assert.match(log, /"type":"memory".*"activations":\d+/);
  const steps = find(events, 'steps')!;
  assert.ok(steps.memoryPeak > 0 && steps.memoryReserved >= memory.weights);
});

test('a dry run tells, too', async () => {
  const events: JobEvent[] = [];
  await dryRun(config('dry'), { report: (event) => events.push(event) });
  assert.equal(find(events, 'memory')!.rows, 8);
});

test('a budget that is too small for the model alone names its parts', async () => {
  const small = config('small', { memory: { budget: '20KiB' } });
  await assert.rejects(run(small), (error: unknown) => {
    assert.ok(error instanceof DeviceError);
    assert.match(
      error.message,
      /budget of 20 KiB is too small for the model alone: weights .*, gradients .*, optimizer/,
    );
    return true;
  });
  // It is not left to what comes after the run.
  addon.Tensor.fromTypedArray(new Uint8Array(2 ** 22), [2 ** 22]).dispose();
});

test('a budget too small for the batch halves it, or stops at the start', async () => {
  const budget = 3 * 2 ** 20;
  const given = (name: string, memory: ConfigInput['memory']): Config =>
    config(name, { memory, train: { epochs: 1, batchSize: 32 } });
  const { events } = await run(given('halved', { budget: `${budget}` }));
  assert.equal(find(events, 'memory')!.fits, false);
  const halved: OutOfMemoryEvent = find(events, 'out_of_memory')!;
  assert.equal(halved.from, 32);
  assert.match(
    halved.message,
    /^out of memory at step 1 in .*: micro-batch 32 → 16, 2 per step; the 2 batch norms/,
  );
  await assert.rejects(run(given('stopped', { budget, onOom: 'stop' })), (error: unknown) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.fix!, /grad_accum/);
    return true;
  });
});

test('the budget also holds for what comes after the last step', async () => {
  const allocate = (): void => addon.Tensor.fromTypedArray(new Uint8Array(2 ** 25), [2 ** 25]).dispose();
  let refused: unknown = null;
  await run(config('after', { memory: { budget: '16MiB' }, train: { epochs: 1, bnRecompute: 1 } }), {
    report: (event) => {
      if (event.type !== 'info' || !event.message.startsWith('Recomputing')) return;
      try {
        allocate();
      } catch (error) {
        refused = error;
      }
    },
  });
  assert.ok(refused instanceof DeviceError, 'memory beyond the budget was given');
  allocate();
});

test('a run that was halved and then resumed computes what it would have', async () => {
  const settings = { train: { batchSize: 16 } };
  const whole = await run(config('one', settings), { report: failAfterStart });
  const event = find(whole.events, 'out_of_memory')!;
  assert.ok(event.step >= 1 && event.step <= 4, `at step ${event.step}`);
  assert.deepEqual([event.from, event.to, event.parts], [16, 8, 2]);

  const controller = new AbortController();
  const first = await run(config('two', settings), {
    signal: controller.signal,
    report: (told) => {
      failAfterStart(told);
      if (told.type === 'epoch') controller.abort();
    },
  });
  assert.equal(first.outcome.interrupted, true);
  addon.failCpuAllocations(null);
  const second = await run(config('two', settings), { resume: true });
  assert.equal(find(second.events, 'out_of_memory'), undefined);
  assert.deepEqual(await weightsOf(second.outcome.modelPath!), await weightsOf(whole.outcome.modelPath!));
  // Batch norm over smaller batches computes something else.
  const undisturbed = await run(config('three', settings));
  assert.notDeepEqual(
    await weightsOf(undisturbed.outcome.modelPath!),
    await weightsOf(whole.outcome.modelPath!),
  );
});

test('the copy of a checkpoint counts: without room for it beside a step, training waits', async () => {
  const small = { model: { name: 'resnet20' }, train: { epochs: 1 } };
  const { events, outcome } = await run(config('measured', small));
  const measured = find(events, 'memory')!;
  const { weights, gradients, optimizer, activations, workspace, checkpointCopy } = measured;
  assert.equal(checkpointCopy, weights + optimizer);
  assert.match(measured.message, /; checkpoint copy [\d.]+ [KM]iB while one is written$/);
  const fixed = weights + gradients + optimizer;

  const none = config('no_copy', { ...small, memory: { budget: fixed + checkpointCopy - 1 } });
  await assert.rejects(run(none), (error: unknown) => {
    assert.ok(error instanceof DeviceError);
    assert.match(error.message, /too small for the model alone: .*, checkpoint copy [\d.]+ [KM]iB, together/);
    return true;
  });
  // One that would give the copy room, but not beside a step.
  const budget = fixed + checkpointCopy + activations + workspace - 2 ** 18;
  const waiting = await run(config('waiting', { ...small, memory: { budget } }));
  assert.equal(find(waiting.events, 'out_of_memory'), undefined);
  for (const event of waiting.events) {
    if (event.type === 'checkpoint') assert.equal(event.pauseSeconds, event.seconds);
  }
  assert.deepEqual(await weightsOf(waiting.outcome.modelPath!), await weightsOf(outcome.modelPath!));
});

/** Smaller than any part of a checkpoint that is worth mentioning. */
const COPY = 1000;

test('where memory runs out a checkpoint is written without a copy, or the error says what it was', async () => {
  const short = (name: string, count: number): ReturnType<typeof run> =>
    run(config(name, { train: { epochs: 1 } }), {
      report: (event) => {
        if (event.type === 'evaluation' && event.epoch !== null)
          addon.failCpuAllocations({ first: 0, count, min_bytes: COPY });
      },
    });
  const { events, outcome } = await short('uncopied', 1);
  const warning = events.find(
    (event) => event.type === 'warning' && /no memory for the copy/.test(event.message),
  );
  assert.ok(warning, 'the copy was made');
  const checkpoint = find(events, 'checkpoint')!;
  assert.equal(checkpoint.pauseSeconds, checkpoint.seconds);
  const whole = await run(config('copied', { train: { epochs: 1 } }));
  for (const name of ['model.safetensors', 'optimizer.safetensors']) {
    const [a, b] = await Promise.all(
      [outcome, whole.outcome].map(({ folder }) =>
        fs.readFile(path.join(folder, 'checkpoints', 'step-00000008', name)),
      ),
    );
    assert.ok(a!.equals(b!), name);
  }
  await assert.rejects(short('refused', 1000), (error: unknown) => {
    assert.ok(error instanceof DeviceError);
    assert.equal(error.where, 'checkpoint at step 8');
    assert.match(error.fix!, /memory\.budget/);
    return true;
  });
});

test('trainings at the same time have the same budget', async () => {
  const budget = 2 ** 24;
  const beside = async (name: string, other: number | null): Promise<unknown> => {
    let second: Promise<unknown> | null = null;
    const over = new AbortController();
    // It goes on until the other one has ended.
    await run(config(name, { memory: { budget }, train: { epochs: 10_000 } }), {
      signal: over.signal,
      report: (event) => {
        if (event.type !== 'start') return;
        const given = config(`${name}2`, { memory: { budget: other }, train: { epochs: 1 } });
        second = run(given).catch((error: unknown) => error);
        void second.then(() => over.abort());
      },
    });
    return await second!;
  };
  assert.ok(!((await beside('same', budget)) instanceof Error));
  for (const other of [null, 2 ** 25]) {
    const error = await beside(`other${other}`, other);
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.where, 'memory.budget');
    assert.match(error.message, /another training of this process is under way on cpu .* 16 MiB/);
  }
  addon.Tensor.fromTypedArray(new Uint8Array(budget), [budget]).dispose();
});

test('an automatic batch size is found once, and stays', async () => {
  const given = (epochs: number): Config =>
    config('auto', { memory: { budget: '1MiB' }, train: { batchSize: 'auto', lr: 'auto', epochs } });
  const { events, outcome } = await run(given(1));
  const { batchSize, peak, limit, message } = find(events, 'batch_size')!;
  assert.ok([2, 4].includes(batchSize), message);
  assert.ok(peak <= limit && limit === 2 ** 20);
  assert.equal(find(events, 'start')!.stepsPerEpoch, Math.ceil(60 / batchSize));
  assert.equal(find(events, 'out_of_memory'), undefined);
  const written = parse(await fs.readFile(path.join(outcome.folder, 'config.yaml'), 'utf8')) as {
    train: { batch_size: number; lr: number };
  };
  assert.equal(written.train.batch_size, batchSize);
  assert.equal(written.train.lr, Number(((0.1 * batchSize) / 256).toPrecision(6)));
  // With less memory another one would be found now.
  const longer = { ...given(2), memory: { ...given(2).memory, budget: null } };
  const resumed = await run(longer, { resume: true });
  assert.equal(find(resumed.events, 'batch_size'), undefined);
  assert.equal(find(resumed.events, 'start')!.stepsPerEpoch, Math.ceil(60 / batchSize));
  assert.equal(resumed.outcome.epochs, 2);
});

test('what was found counts before the first checkpoint', async () => {
  const given = config('dies', { memory: { budget: '1MiB' }, train: { batchSize: 'auto', epochs: 1 } });
  const controller = new AbortController();
  const first = await run(given, {
    signal: controller.signal,
    report: (event) => {
      if (event.type === 'start') controller.abort();
    },
  });
  const { batchSize } = find(first.events, 'batch_size')!;
  const decisions = JSON.parse(
    await fs.readFile(path.join(tiny.folder('dies'), 'decisions.json'), 'utf8'),
  ) as {
    parts: Record<string, unknown>;
  };
  assert.equal(decisions.parts.batch_size, batchSize);
  await fs.rm(path.join(tiny.folder('dies'), 'checkpoints'), { recursive: true, force: true });
  const again = await run(given, { resume: 'auto' });
  assert.equal(find(again.events, 'batch_size'), undefined);
  assert.equal(find(again.events, 'start')!.stepsPerEpoch, Math.ceil(60 / batchSize));
});

test('several processes give a number', async () => {
  const place = { rank: 0, world: 2, localRank: 0, localWorld: 2, host: 'localhost', port: 1, server: true };
  const given = config('many', { train: { batchSize: 'auto' } });
  await assert.rejects(run(given, { place: place as never }), (error: unknown) => {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.where, 'train.batch_size');
    return true;
  });
});

test('an evaluation that runs out of memory goes on in smaller batches, with the same figures', async () => {
  const { outcome } = await run(config('evaluated', { train: { epochs: 1 } }));
  const evaluate = (): ReturnType<typeof evaluateModel> =>
    evaluateModel(outcome.modelPath!, tiny.images, { cache: path.join(tiny.root, 'cache2'), device: 'cpu' });
  const expected = await evaluate();
  addon.failCpuAllocations({ first: 0, count: 2, min_bytes: ACTIVATION });
  const { top1, loss, samples } = await evaluate();
  assert.ok(addon.failCpuAllocations(null) >= 2);
  assert.deepEqual([top1, samples], [expected.top1, expected.samples]);
  assert.ok(Math.abs(loss! - expected.loss!) < 1e-6);
});
