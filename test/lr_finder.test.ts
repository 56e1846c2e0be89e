/** The search for a learning rate: its curve, its suggestions, its plots, and that it leaves everything as it was. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, promises as fs } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { AbortedError, ArgumentError, TrainError } from '#fornax/errors.js';
import { defineConfig } from '#fornax/config/load.js';
import { decades, roundTicks, showRate } from '#fornax/plot/axis.js';
import { svgChart } from '#fornax/plot/svg_chart.js';
import { terminalChart } from '#fornax/plot/terminal_chart.js';
import { largestBatch, roundRows } from '#fornax/train/batch_size.js';
import { suggestLearningRates, Sweep, type SweepPoint } from '#fornax/train/lr_suggestion.js';
import { sweepConfig, type LearningRateResult } from '#fornax/train/lr_sweep.js';
import type { MemoryData } from '#fornax/train/memory_data.js';
import { Trainer, type TrainerOptions } from '#fornax/train/trainer.js';

import { fornax } from './support/cli.js';
import { temporaryFolder, writeColourFolder } from './support/image_folder.js';
import { collect, pointData, pointModel, weightsOf } from './support/points.js';

let data: MemoryData;
before(async () => {
  data = await pointData();
});
after(() => data.dispose());

/** A curve of so many rates from 1e-7 to 10. */
function curve(count: number, loss: (i: number) => number): SweepPoint[] {
  return Array.from({ length: count }, (_, i) => {
    const lr = 1e-7 * 1e8 ** (i / (count - 1));
    return { lr, loss: loss(i), smoothed: loss(i) };
  });
}

test('the suggestions are those of fastai', () => {
  // All used points (10 … 94 of 100) fall: the valley is at -1 + floor(85 / 3) + floor(85 / 6) = 41 of them.
  const falling = curve(100, (i) => 100 - i - i / 1000 - (i === 61 ? 0.4 : 0));
  assert.deepEqual(suggestLearningRates(falling, 100), {
    valley: falling[10 + 41]!.lr,
    steep: falling[60]!.lr,
  });
  // Flat, then a descent from 40 to 70, then up: its steepest step is where it was made so.
  const valley = curve(100, (i) =>
    i < 40 ? 5 + i / 1e4 : i < 70 ? 5 - (i - 40) / 10 - (i >= 51 ? 0.5 : 0) : i,
  );
  const found = suggestLearningRates(valley, 100)!;
  assert.equal(found.steep, valley[50]!.lr);
  assert.ok(found.valley > valley[40]!.lr && found.valley < valley[70]!.lr);
  assert.equal(suggestLearningRates(falling.slice(0, 18), 100), null);
});

test('losses are averaged without a bias, and a sweep ends where they explode', () => {
  const sweep = new Sweep();
  for (const loss of [3, 3, 3]) sweep.add(0.1, loss);
  for (const { smoothed } of sweep.points) assert.ok(Math.abs(smoothed - 3) < 1e-12);
  // Weights 0.98² · 0.02, 0.98 · 0.02, 0.02 over their sum.
  const three = new Sweep();
  for (const loss of [1, 2, 4]) three.add(0.1, loss);
  assert.ok(Math.abs(three.points[2]!.smoothed - (0.9604 * 1 + 0.98 * 2 + 4) / 2.9404) < 1e-12);
  sweep.add(1, 1000);
  assert.ok(sweep.diverged);
  sweep.add(2, 3);
  assert.equal(sweep.points.length, 4);
  const on = new Sweep(false);
  for (const loss of [1, 1000, 2]) on.add(0.1, loss);
  assert.equal(on.diverged, false);
  on.add(0.1, NaN);
  assert.deepEqual([on.diverged, on.points.length], [true, 3]);
});

function trainer(changes: Partial<TrainerOptions['train'] & object> = {}): Trainer {
  return new Trainer({
    model: pointModel(),
    data,
    device: 'cpu',
    train: { epochs: 1, batchSize: 8, lr: 0.1, amp: 'off', ...changes },
  });
}

test('a sweep finds a rate that trains, and puts everything back', async () => {
  const run = trainer();
  const before = weightsOf(run.model);
  const result = await run.findLearningRate({ minLr: 1e-5, maxLr: 1000, steps: 60 });
  assert.equal(weightsOf(run.model), before);
  assert.ok(result.diverged);
  assert.ok(result.points.length > 20 && result.points.length < 60, `${result.points.length} points`);
  result.points.forEach(({ lr }, i) => {
    assert.ok(Math.abs(lr / (1e-5 * 1e8 ** (i / 59)) - 1) < 1e-9);
  });
  assert.ok(result.suggestion! > 1e-3 && result.suggestion! < 10, String(result.suggestion));
  assert.equal(result.suggestion, result.suggestions!.valley);
  // The same again, and the training afterwards is that of a model that was never swept.
  assert.deepEqual(await run.findLearningRate({ minLr: 1e-5, maxLr: 1000, steps: 60 }), result);
  await collect(run);
  const fresh = trainer();
  await collect(fresh);
  assert.equal(weightsOf(run.model), weightsOf(fresh.model));
  run.model.dispose();
  fresh.model.dispose();
});

test('it goes with accumulation, frozen modules, averages and bfloat16', async () => {
  const run = trainer({
    gradAccum: 3,
    frozen: ['left'],
    ema: {},
    amp: 'bf16',
    earlyStopping: { patience: 1 },
  });
  const before = weightsOf(run.model);
  const { points } = await run.findLearningRate({
    minLr: 1e-4,
    maxLr: 1,
    steps: 25,
    stopWhenDiverged: false,
  });
  assert.equal(points.length, 25);
  assert.equal(weightsOf(run.model), before);
  run.model.dispose();
});

test('the head keeps its ratio to the rest, and a batch size that is found is told', async () => {
  const range = { minLr: 1e-3, maxLr: 1, steps: 20, stopWhenDiverged: false };
  const sweep = async (changes: TrainerOptions['train']): Promise<LearningRateResult> => {
    const run = trainer(changes);
    const result = await run.findLearningRate(range);
    run.model.dispose();
    return result;
  };
  const factor = await sweep({ headLr: '3x' });
  assert.equal(factor.batchSize, 8);
  assert.deepEqual((await sweep({ headLr: 0.1 * 3 })).points, factor.points);
  assert.deepEqual((await sweep({ headLr: 0.1 })).points, (await sweep({})).points);
  const { batchSize } = await sweep({ batchSize: 'auto' });
  // There is memory for more: it is bounded by the samples.
  assert.equal(batchSize, roundRows(largestBatch('cpu', data.trainSamples, 1)));
  assert.notEqual(batchSize, 64);
});

test('a sweep is as long as its steps, and not so many epochs: precision is measured by that', () => {
  const config = defineConfig({
    data: { source: 'shapes' },
    train: { epochs: 50, batchSize: 8, headLr: 0.5 },
  });
  const { train } = sweepConfig(config, { minLr: 1e-5, maxLr: 1, steps: 100 }, 12);
  assert.equal(train.epochs, 9);
  assert.equal(train.schedule.name, 'exponential');
});

test('losses that are no numbers any more end a sweep, and are no error', async () => {
  const run = trainer();
  const before = weightsOf(run.model);
  const { diverged, points } = await run.findLearningRate({
    minLr: 1e-3,
    maxLr: 1e30,
    steps: 60,
    stopWhenDiverged: false,
  });
  assert.ok(diverged && points.length < 60);
  assert.ok(points.every(({ smoothed }) => Number.isFinite(smoothed)));
  assert.equal(weightsOf(run.model), before);
  run.model.dispose();
});

test('mistakes and interruptions', async () => {
  const run = trainer();
  const before = weightsOf(run.model);
  await assert.rejects(run.findLearningRate({ minLr: 1, maxLr: 0.1 }), ArgumentError);
  await assert.rejects(run.findLearningRate({ steps: 3 }), ArgumentError);
  await assert.rejects(run.findLearningRate({ signal: AbortSignal.abort() }), AbortedError);
  const both = run.findLearningRate({ steps: 20 });
  await assert.rejects(
    collect(run),
    (error) => error instanceof TrainError && /training already/.test(error.what),
  );
  await both;
  assert.equal(weightsOf(run.model), before);
  run.model.dispose();
});

test('ticks are round numbers', () => {
  assert.deepEqual(decades(1e-7, 10, 20), [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1, 10]);
  assert.deepEqual(decades(2e-7, 9, 4), [1e-6, 1e-4, 0.01, 1]);
  assert.deepEqual(roundTicks(0.9, 3.1), [1, 2, 3]);
  assert.deepEqual(roundTicks(0, 0.42), [0, 0.2, 0.4]);
  assert.deepEqual([1e-7, 0.001, 10, 100_000].map(showRate), ['1e-7', '0.001', '10', '1e5']);
});

test('plots show the curve, its axes and the suggestion', () => {
  const points = curve(50, (i) => 3 - 2 * Math.exp(-(((i - 30) / 9) ** 2)));
  const chart = {
    title: 'a < b',
    xLabel: 'learning rate',
    yLabel: 'training loss',
    x: points.map(({ lr }) => lr),
    y: points.map(({ loss }) => loss),
    marks: [{ x: 1e-3, label: 'valley 1e-3' }],
  };
  const svg = svgChart(chart);
  assert.match(svg, /^<svg [^>]*xmlns/);
  for (const part of ['a &lt; b', 'learning rate', 'training loss', '>1e-7<', '>10<', 'valley 1e-3']) {
    assert.ok(svg.includes(part), part);
  }
  // 1e-3 is half-way between 1e-7 and 10 on a logarithmic axis from 70 to 700.
  assert.match(svg, /class="mark" x1="385\.0"/);
  assert.equal(/points="([^"]+)"/.exec(svg)![1]!.split(' ').length, 50);
  assert.ok(!/NaN|undefined/.test(svg));
  const lines = terminalChart(chart, { width: 40, height: 8 }).split('\n');
  assert.equal(lines.length, 12);
  assert.match(lines[0]!, /a < b \(training loss over learning rate\)/);
  assert.match(lines.at(-2)!, /1e-7.*0\.001.*10$/);
  // The lowest point of the curve is in the lowest row, right of the middle.
  const lowest = lines[8]!.search(/[\u2801-\u28ff]/);
  assert.ok(lowest > 20 && lowest < 36, lines.join('\n'));
});

test('a loss that grows beyond all bounds is drawn at once', () => {
  const program = `
    import { terminalChart } from '#fornax/plot/terminal_chart.js';
    const y = [2.3, 2.2, 2.1, 2.2, 6e10, 1e30, Infinity, 3e18];
    const x = y.map((_, i) => 10 ** (i - 4));
    console.log(terminalChart({ title: '', xLabel: '', yLabel: '', x, y, marks: [] }, { width: 40, height: 8 }));
  `;
  // In a process of its own, which can be ended.
  const given = ['--input-type=module', '-e', program];
  const drawn = execFileSync(process.execPath, given, { timeout: 60_000, encoding: 'utf8' });
  assert.match(drawn.split('\n')[1]!, /[\u2801-\u28ff]/);
});

test('fornax lr-find prints a plot and a suggestion, writes what it is asked to, and begins no run', async () => {
  await using root = await temporaryFolder();
  await writeColourFolder(path.join(root.path, 'images'));
  const [plot, out] = ['rates.svg', 'rates.json'].map((name) => path.join(root.path, name));
  const args = [
    ...['lr-find', '--data', path.join(root.path, 'images'), '--model', 'tiny_cnn', '--device', 'cpu'],
    ...['--set', 'data.resolution=24', '--set', 'train.batch_size=8', '--set', 'train.amp=off'],
    ...[
      '--set',
      `data.cache=${path.join(root.path, 'cache')}`,
      '--set',
      `run.dir=${path.join(root.path, 'runs')}`,
    ],
  ];
  const text = await fornax([...args, '--plot', plot!, '--out', out!, '--steps', '40', '--min', '1e-4']);
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /training loss over learning rate/);
  assert.match(text.stdout, /Suggested learning rate: [\d.e-]+/);
  assert.match(text.stdout, /--set train\.lr=/);
  assert.match(await fs.readFile(plot!, 'utf8'), /^<svg /);
  const written = JSON.parse(await fs.readFile(out!, 'utf8')) as { suggestion: number; points: unknown[] };
  assert.ok(written.suggestion > 0);
  assert.ok(!existsSync(path.join(root.path, 'runs')));
  const json = await fornax([...args, '--json', '--steps', '40', '--min', '1e-4']);
  const last = JSON.parse(json.stdout.trim().split('\n').at(-1)!) as { type: string; suggestion: number };
  assert.deepEqual([last.type, last.suggestion], ['learning_rate', written.suggestion]);
  assert.ok(json.stdout.includes('{"type":"lr_find_progress",') && !json.stdout.includes('"split":"train"'));
  const early = await fornax([...args, '--steps', '20', '--min', '1e5', '--max', '1e30']);
  assert.match(early.stdout, /Too few steps went well/, early.stderr);
  assert.equal(early.code, 1);
  assert.equal((await fornax([...args, '--min', '2', '--max', '1'])).code, 2);
  assert.equal((await fornax([...args, '--plot', 'rates.png'])).code, 2);
});
