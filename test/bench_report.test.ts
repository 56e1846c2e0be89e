/** What the benchmarks make of their figures. The benchmarks themselves are no tests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withResults } from '../bench/report.js';
import { spread } from '../bench/row.js';
import { selectCases, trainCases, variantsOn } from '../bench/train_case.js';
import {
  floorShare,
  geometricMean,
  ratios,
  trainReport,
  type TrainResult,
  type VariantResult,
} from '../bench/train_report.js';

const [resnet, mobilenet] = trainCases('cpu', 2);

/** A variant that takes so many milliseconds a step and twice that of the processors. */
function took(id: string, milliseconds: number, rest: object = {}): VariantResult {
  const variant = [...variantsOn('cpu'), ...variantsOn('cuda')].find((each) => each.id === id)!;
  return {
    variant,
    time: spread([milliseconds, 2 * milliseconds, milliseconds / 2]),
    cpu: 2 * milliseconds,
    faults: null,
    repeated: 0,
    memory: 512 * 2 ** 20,
    firstSeconds: 42,
    libtorch: '2.14.1',
    ...rest,
  };
}

function result(setting: TrainResult['setting'], variants: VariantResult[], floor = 60): TrainResult {
  return {
    setting,
    variants,
    floor: { milliseconds: floor, fastest: { float32: 3, bfloat16: 17 } },
    beside: { idle: 101, busy: 133 },
    checkpoints: null,
  };
}

test('the geometric mean is the n-th root of the product', () => {
  assert.ok(Math.abs(geometricMean([2, 8]) - 4) < 1e-12);
  assert.ok(Math.abs(geometricMean([0.5, 2, 27, 1 / 27]) - 1) < 1e-12);
  assert.ok(Number.isNaN(geometricMean([])));
});

test('Fornax is compared with plain PyTorch and with the fastest of the peers', () => {
  const all = ratios(
    result(resnet!, [
      took('fornax', 100),
      took('fp32', 20),
      took('eager', 150),
      took('amp', 80),
      took('compile', 120),
    ]),
  );
  assert.deepEqual(all, { baseline: 1.5, fastest: 0.8, fastestPeer: 'eager bf16', cpu: 1.5 });
});

test('a peer that failed or is not there is not compared with', () => {
  const failed = { variant: variantsOn('cpu').find(({ id }) => id === 'amp')!, failed: 'no bf16' };
  const one = ratios(result(resnet!, [took('fornax', 100), took('eager', 150), failed]));
  assert.deepEqual(one, { baseline: 1.5, fastest: 1.5, fastestPeer: 'eager', cpu: 1.5 });
  const none = ratios(result(resnet!, [took('fornax', 100)]));
  assert.deepEqual(none, { baseline: null, fastest: null, fastestPeer: null, cpu: null });
});

test('the report has all ratios, their geometric mean, throughput and what failed', () => {
  const text = trainReport([
    result(resnet!, [took('fornax', 100), took('eager', 400)]),
    result(mobilenet!, [
      took('fornax', 10, { faults: 12 }),
      took('eager', 10),
      { variant: variantsOn('cpu').find(({ id }) => id === 'compile')!, failed: 'RuntimeError: no compiler' },
    ]),
  ]);
  const rows = text
    .split('\n')
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .filter((cells) => cells.length > 3);
  const [time, images, cpu, memory] = rows.filter((cells) => cells[1] === resnet!.name);
  assert.deepEqual(time!.slice(2, -1), [
    '100 (50.0–200)',
    '400 (200–800)',
    '–',
    '4.00×',
    '4.00× (eager)',
    '60.0',
  ]);
  assert.deepEqual(images!.slice(2, -1), ['640', '160', '–']);
  assert.deepEqual(cpu!.slice(2, -1), ['200', '800', '–', '4.00×']);
  assert.deepEqual(memory!.slice(2, -1), ['512', '512', '–']);
  assert.match(text, /\*\*geometric mean\*\* .*\*\*2\.00×\*\* \| \*\*2\.00×\*\*/);
  assert.match(text, /torch\.compile failed \(RuntimeError: no compiler\)/);
  assert.match(text, /beside an open evaluation session 101 ms a step, 133 ms right after/);
  assert.match(text, /12 page faults a step/);
  assert.match(text, /3 layers in float32, 17 layers in bfloat16/);
  assert.doesNotMatch(text, /different versions/);
});

test('on a GPU everything is in mixed precision, and the report says how many steps were replays', () => {
  const [resnet50] = trainCases('cuda', 16);
  const measured = result(resnet50!, [
    took('fornax', 100, { repeated: 0.97 }),
    took('no_graphs', 110),
    took('amp', 120),
    took('compile_amp', 105),
  ]);
  assert.deepEqual(ratios(measured), {
    baseline: 1.2,
    fastest: 1.05,
    fastestPeer: 'torch.compile bf16',
    cpu: 1.2,
  });
  const text = trainReport([measured]);
  assert.match(text, /97 % of the steps of Fornax are replays of a CUDA graph/);
  assert.match(
    text,
    /\| ms a step \| Fornax \| Fornax, no CUDA graphs \| eager bf16 \| torch\.compile bf16 \|/,
  );
});

test('the share of convolution is told, and nothing of the rest that was not measured', () => {
  const taking = (milliseconds: number, floor: number): string =>
    floorShare(result(resnet!, [took('fornax', milliseconds)], floor));
  assert.equal(taking(100, 90), 'convolution and linear layers alone are 90 % of the step');
  assert.equal(taking(100, 30), 'convolution and linear layers alone are 30 % of the step');
  assert.match(taking(100, 120), /faster here than the peer's .*120 %/);
  assert.equal(floorShare({ ...result(resnet!, [took('fornax', 1)]), floor: null }), '');
});

test('checkpoints are listed beside the peer', () => {
  const [fornax, , eager] = variantsOn('cpu');
  const text = trainReport([
    {
      ...result(resnet!, [took('fornax', 100), took('eager', 150)]),
      checkpoints: [
        { variant: fornax!, pause: 12, held: 30, written: 200, processor: 90, bytes: 2 ** 27, resume: 321 },
        {
          variant: eager!,
          pause: 150,
          held: null,
          written: null,
          processor: 140,
          bytes: 2 ** 26,
          resume: 456,
        },
      ],
    },
  ]);
  assert.match(text, /\| Fornax \| 128 \| 12\.0 \| 30\.0 \| 200 \| 90\.0 \| 321 \|/);
  assert.match(text, /\| PyTorch, torch\.save \| 64\.0 \| 150 \| 150 \| 150 \| 140 \| 456 \|/);
});

test('sides on different versions of libtorch are named', () => {
  const text = trainReport([
    result(resnet!, [
      took('fornax', 1, { libtorch: '2.13.0' }),
      took('eager', 2, { libtorch: '2.14.1+cu130' }),
    ]),
  ]);
  assert.match(text, /Fornax on 2\.13\.0, PyTorch on 2\.14\.1\+cu130/);
});

test('cases are chosen by name, and an unknown name is refused with those there are', () => {
  const cases = trainCases('cpu', 2);
  assert.deepEqual(
    selectCases(cases, ['head', 'unet']).map(({ id }) => id),
    ['unet', 'head'],
  );
  assert.equal(selectCases(cases, null), cases);
  assert.throws(() => selectCases(cases, ['resnet5']), /resnet5[^]*resnet18, mobilenet_v2/);
});

test('results replace those of the same benchmark and leave the others', () => {
  const both = withResults(withResults('# Benchmarks\n', 'old steps'), 'old training', 'bench:train');
  const changed = withResults(both, 'new training', 'bench:train');
  assert.match(changed, /old steps/);
  assert.match(changed, /new training/);
  assert.doesNotMatch(changed, /old training/);
  assert.equal(withResults(changed, 'new training', 'bench:train'), changed);
});
