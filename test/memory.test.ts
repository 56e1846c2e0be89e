/** Memory of training: what a step takes, budgets, and the batch size that fits. */
import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';

import { formatSize, parseSize } from '#fornax/config/size.js';
import { DeviceError } from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import type { MemoryTrial, NativeTrain } from '#fornax/native/contract.js';
import { largestBatch, roundRows, searchRows } from '#fornax/train/batch_size.js';
import { describeMemory } from '#fornax/train/memory.js';
import { goldenBatch, goldenModel, openSession } from './support/training_golden.js';

const addon = loadAddon();
const MiB = 2 ** 20;

afterEach(() => {
  addon.setMemoryBudget('cpu', null);
  addon.failCpuAllocations(null);
});

describe('amounts of memory', () => {
  it('are read as people write them', () => {
    assert.equal(parseSize('4GiB'), 4 * 2 ** 30);
    assert.equal(parseSize('512 MiB'), 512 * MiB);
    assert.equal(parseSize('1.5GB'), 1.5e9);
    assert.equal(parseSize('1048576'), MiB);
    for (const wrong of ['4G', 'GiB', '-1MiB', '0GiB', '4gib', ''])
      assert.equal(parseSize(wrong), null, wrong);
  });

  it('are written with the digits that say something', () => {
    const texts = [0, 512, 1536, 96 * MiB, 1.44 * 2 ** 30].map(formatSize);
    assert.deepEqual(texts, ['0 B', '512 B', '1.5 KiB', '96 MiB', '1.4 GiB']);
  });
});

/** Everything that a step may change. */
function traceOf(session: NativeTrain, model: ReturnType<typeof goldenModel>): unknown {
  const snapshot = Object.entries(session.snapshot()).map(([name, tensor]) => [name, tensor.toTypedArray()]);
  const buffers = model.state().map(({ name, tensor }) => [name, tensor.toTypedArray()]);
  return [snapshot, buffers.map(([name, values]) => [name, (values as Float32Array).slice()])];
}

describe('a trial step', () => {
  it('leaves no trace', async () => {
    const model = goldenModel({ dropout: 0.3 });
    const session = openSession(model, { ema: {}, optimizer: { name: 'adamw' } });
    await session.step(goldenBatch(0, 16));
    const before = traceOf(session, model);
    const { fits } = await session.trial(goldenBatch(16, 16), { rows: 16 });
    assert.equal(fits, true);
    assert.deepEqual(traceOf(session, model), before);
    assert.deepEqual(session.gradients(), {});
    assert.equal(session.stepCount, 1);
    session.dispose();
  });

  it('tells what its parts take', async () => {
    const model = goldenModel();
    const bytes = (kind: string): number =>
      model
        .state()
        .filter((entry) => kind === 'all' || entry.kind === kind)
        .reduce((sum, { tensor }) => sum + tensor.toTypedArray().byteLength, 0);
    const session = openSession(model, { ema: {}, optimizer: { name: 'adamw' } });
    const [small, large] = [
      await session.trial(goldenBatch(0, 8), { rows: 8 }),
      await session.trial(goldenBatch(0, 8), { rows: 32 }),
    ];
    assert.equal(small.weights, bytes('all'));
    assert.equal(small.gradients, bytes('parameter'));
    assert.ok(small.optimizer >= 2 * bytes('parameter') && small.optimizer < 2.2 * bytes('parameter'));
    assert.ok(small.average >= bytes('parameter') && small.average <= bytes('all'));
    // The first convolution's output alone: [rows, 16, 16, 16].
    assert.ok(small.activations > 8 * 16 * 16 * 16 * 4, String(small.activations));
    const growth = large.activations / small.activations;
    assert.ok(growth > 3.5 && growth < 4.5, `activations of four times the rows grew ${growth}-fold`);
    assert.ok(large.peak > small.peak && large.peak >= large.activations + large.weights);
    const fixed = await session.trial({}, { rows: 0 });
    assert.deepEqual([fixed.weights, fixed.peak], [small.weights, 0]);
    session.dispose();
  });

  it('that does not fit into the budget is a result, and ordinary steps go on', async () => {
    const model = goldenModel();
    const session = openSession(model);
    const before = traceOf(session, model);
    const batch = goldenBatch(0, 16);
    const { peak } = await session.trial(batch, { rows: 16 });
    addon.setMemoryBudget('cpu', peak + 256 * 1024);
    const trial = await session.trial(batch, { rows: 256 });
    assert.equal(trial.fits, false);
    assert.match(trial.what!, /the budget is \d+ bytes/);
    assert.ok(trial.weights > 0);
    assert.deepEqual(traceOf(session, model), before);
    await session.step(batch);
    assert.equal(session.microBatch, null);
    assert.match(
      describeMemory(trial, 256, peak),
      /^Memory: a step on 256 images does not fit into .* \(weights/,
    );
    session.dispose();
  });
});

describe('a memory budget on the CPU', () => {
  it('fails an allocation beyond it, before the machine has to swap', () => {
    const { allocated } = addon.deviceMemory('cpu');
    addon.setMemoryBudget('cpu', allocated + 4 * MiB);
    assert.throws(
      () => addon.Tensor.fromTypedArray(new Uint8Array(8 * MiB), [8 * MiB]),
      (error: unknown) => error instanceof DeviceError && /out of memory.*budget/.test(error.message),
    );
    addon.Tensor.fromTypedArray(new Uint8Array(2 * MiB), [2 * MiB]).dispose();
    assert.throws(() => addon.setMemoryBudget('cpu', 0), /at least 1/);
  });

  it('counts what is kept for reuse, which goes first', () => {
    const { allocated } = addon.deviceMemory('cpu');
    addon.setMemoryBudget('cpu', allocated + 8 * MiB);
    addon.Tensor.fromTypedArray(new Uint8Array(5 * MiB), [5 * MiB]).dispose();
    assert.ok(addon.deviceMemory('cpu').reserved >= allocated + 5 * MiB);
    // Of another size class: the cached block is of no use for it, and both together are too much.
    addon.Tensor.fromTypedArray(new Uint8Array(7 * MiB), [7 * MiB]).dispose();
    assert.ok(addon.deviceMemory('cpu').reserved <= allocated + 8 * MiB);
  });

  it('makes a step halve its batch instead of failing', async () => {
    const session = openSession(goldenModel());
    const batch = goldenBatch(0, 64);
    const half = await session.trial(batch, { rows: 32 });
    addon.setMemoryBudget('cpu', Math.ceil(half.peak * 1.2));
    await session.step(batch);
    assert.equal(session.microBatch, 32);
    session.dispose();
  });
});

const trialOf = (peak: number, fits = true): MemoryTrial => ({
  ...{ fits, weights: 0, optimizer: 0, average: 0, gradients: 0, activations: 0, workspace: 0 },
  peak: fits ? peak : 0,
});

/** Searches where a step takes `base` and `perRow` for each row, and what takes more than `most` fails. */
async function search(given: {
  base: number;
  perRow: number;
  limit: number;
  largest?: number;
  curve?: number;
}): Promise<{ rows: number; tried: number[] }> {
  const { base, perRow, limit, largest = 256, curve = 0 } = given;
  const tried: number[] = [];
  const run = (rows: number): Promise<MemoryTrial> => {
    tried.push(rows);
    const peak = base + perRow * rows + curve * rows ** 2;
    return Promise.resolve(trialOf(peak, peak <= limit * 1.05));
  };
  return { rows: (await searchRows(run, limit, largest)).rows, tried };
}

describe('the automatic batch size', () => {
  it('is a power of two up to 64, then a multiple of 8', () => {
    assert.deepEqual([1, 3, 7, 33, 63, 64, 71, 100, 300].map(roundRows), [1, 2, 4, 32, 32, 64, 64, 96, 296]);
  });

  it('leaves an epoch its steps', () => {
    assert.equal(largestBatch('cpu', 50_000, 1), 256);
    assert.equal(largestBatch('cuda', 50_000, 1), 1024);
    assert.equal(largestBatch('cpu', 1000, 1), 125);
    assert.equal(largestBatch('cpu', 1000, 4), 31);
    assert.equal(largestBatch('cpu', 60, 1), 8);
    assert.equal(largestBatch('cpu', 5, 1), 5);
  });

  it('is the largest that fits, found with a handful of trials', async () => {
    for (const [perRow, expected] of [
      [10, 96],
      [20, 32],
      [100, 8],
      [500, 2],
      [1000, 1],
    ] as const) {
      const { rows, tried } = await search({ base: 0, perRow, limit: 1000 });
      assert.equal(rows, expected, `${perRow} bytes a row`);
      assert.ok(tried.length <= 6, tried.join(', '));
    }
    assert.equal((await search({ base: 100, perRow: 1, limit: 1000 })).rows, 256);
    assert.equal((await search({ base: 0, perRow: 1, limit: 1000, largest: 50 })).rows, 32);
  });

  it('believes trials, not the line through them', async () => {
    const { rows } = await search({ base: 0, perRow: 1, limit: 1000, curve: 0.05 });
    const takes = (count: number): number => count + 0.05 * count ** 2;
    assert.ok(takes(rows) <= 1000 && takes(rows + 8) > 900, `${rows} rows`);
  });

  it('is refused where not even one image fits', async () => {
    await assert.rejects(search({ base: 0, perRow: 2000, limit: 1000 }), (error: unknown) => {
      assert.ok(error instanceof DeviceError);
      assert.match(error.message, /single image takes more than 1000 B/);
      return true;
    });
  });
});
