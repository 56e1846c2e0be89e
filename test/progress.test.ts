import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bar, StatusLine } from '#fornax/cli/progress_bar.js';
import { createReporter, type Reporter } from '#fornax/cli/progress.js';
import { bytes, clock, count, percent, rate, table } from '#fornax/cli/terminal.js';
import type { EpochEvent, EvaluationEvent, JobEvent, StepsEvent } from '#fornax/train/events.js';

class FakeStream {
  text = '';
  constructor(
    readonly isTTY = false,
    readonly columns = 80,
  ) {}
  write(text: string): void {
    this.text += text;
  }
  get lines(): string[] {
    return this.text.split('\n').slice(0, -1);
  }
}

/** What a terminal shows: the lines above, and the one the cursor is in. */
function screen(text: string): string[] {
  return text
    .replaceAll('\u001b[?25l', '')
    .replaceAll('\u001b[?25h', '')
    .split('\n')
    .map((line) => line.split('\r\u001b[2K').at(-1)!);
}

const steps = (change: Partial<StepsEvent> = {}): StepsEvent => ({
  type: 'steps',
  epoch: 2,
  epochs: 10,
  step: 150,
  totalSteps: 1000,
  epochStep: 50,
  stepsPerEpoch: 100,
  loss: 1.1,
  losses: [1.1],
  epochLoss: 1.2345,
  lr: 0.0512,
  samples: 3200,
  samplesPerSecond: 1234.5,
  waitShare: 0.01,
  memory: 1_234_000_000,
  memoryPeak: 1_000_000_000,
  memoryReserved: 1_100_000_000,
  etaSeconds: 133,
  ...change,
});
const epoch: EpochEvent = {
  type: 'epoch',
  epoch: 2,
  epochs: 10,
  step: 200,
  loss: 1.1,
  lr: 0.05,
  samples: 6400,
  seconds: 65,
  samplesPerSecond: 98.4,
};
const evaluation: EvaluationEvent = {
  type: 'evaluation',
  epoch: 2,
  step: 200,
  loss: 0.9,
  top1: 0.7123,
  top5: 0.98,
  samples: 500,
  best: true,
  seconds: 2,
  weights: 'last',
};

function reportAll(reporter: Reporter, events: JobEvent[]): void {
  for (const event of events) reporter.report(event);
}

describe('on a terminal', () => {
  it('a bar shows throughput, loss, rate, memory and the time left', () => {
    const stream = new FakeStream(true, 120);
    const reporter = createReporter({ stream, now: () => 0 });
    reporter.report(steps());
    assert.deepEqual(screen(stream.text), [
      `epoch  2/10  ${'█'.repeat(12)}${'░'.repeat(12)}  50 %  1,235 img/s  loss 1.234  lr 0.0512  1.2 GB  ETA 2:13`,
    ]);
  });

  it('the bar is drawn at most ten times a second and cut to the width', () => {
    let time = 0;
    const stream = new FakeStream(true, 40);
    const reporter = createReporter({ stream, now: () => time });
    for (; time < 1000; time += 10) reporter.report(steps());
    assert.equal(stream.text.split('\u001b[2K').length - 1, 10);
    assert.equal(screen(stream.text)[0]!.length, 39);
  });

  it('an epoch and its evaluation leave one line above the bar', () => {
    const stream = new FakeStream(true, 120);
    const reporter = createReporter({ stream, now: () => 0 });
    reportAll(reporter, [steps(), epoch, evaluation, steps({ epoch: 3, epochStep: 0 })]);
    const shown = screen(stream.text);
    assert.equal(
      shown[0],
      'epoch  2/10  loss 1.100  lr 0.05        98 img/s   1:05  top-1  71.2 %  top-5  98.0 %  val loss  0.900  best',
    );
    assert.match(shown[1]!, /^epoch {2}3\/10 {2}░+ {3}0 %/);
    reporter.close();
    assert.equal(screen(stream.text).at(-1), '', 'closing clears the bar');
    assert.ok(stream.text.endsWith('\u001b[?25h'), 'and shows the cursor');
  });

  it('waiting for data and skipped steps are said', () => {
    const stream = new FakeStream(true, 200);
    createReporter({ stream, now: () => 0 }).report(steps({ waitShare: 0.4, skipped: 2, scale: 1024 }));
    assert.match(stream.text, /waiting for data 40\.0 % {2}2 steps skipped \(scale 1024\)$/);
  });
});

describe('elsewhere', () => {
  it('there are plain lines without escape codes, about steps every few seconds', () => {
    let time = 0;
    const stream = new FakeStream();
    const reporter = createReporter({ stream, now: () => time });
    for (; time < 25_000; time += 100) reporter.report(steps());
    assert.equal(stream.lines.length, 3);
    assert.match(stream.lines[0]!, /^epoch {2}2\/10 step 50\/100 {2}1,235 img\/s/);
    assert.ok(!stream.text.includes('\u001b'));
  });

  it('an epoch without evaluation gets its line when something else happens, or at the end', () => {
    const stream = new FakeStream();
    const reporter = createReporter({ stream, now: () => 0 });
    reporter.report(epoch);
    assert.equal(stream.text, '');
    reporter.close();
    assert.deepEqual(stream.lines, ['epoch  2/10  loss 1.100  lr 0.05        98 img/s   1:05']);
  });

  it('every event but routine ones is told', () => {
    const stream = new FakeStream();
    const reporter = createReporter({ stream });
    reportAll(reporter, [
      { type: 'warning', message: 'two images are broken' },
      { type: 'skipped', message: 'The model exists', modelPath: 'm' },
      { type: 'checkpoint', step: 1, epoch: 1, path: 'c', reason: 'epoch', seconds: 1, pauseSeconds: 0 },
      { type: 'interrupted', step: 1200, checkpoint: 'runs/a/checkpoints/x', signal: 'SIGINT' },
      {
        type: 'done',
        modelPath: 'm',
        folder: 'f',
        epochs: 1,
        steps: 2,
        seconds: 3,
        metrics: evaluation,
        peakMemory: 1.5 * 2 ** 30,
      },
    ]);
    assert.deepEqual(stream.lines, [
      'warning: two images are broken',
      'The model exists',
      'Stopped after step 1,200. Checkpoint: runs/a/checkpoints/x',
      'Go on with --resume.',
      'Done in 0:03: top-1 71.2 %, top-5 98.0 %, val loss 0.900',
      'Memory: 1.5 GiB at most for tensors',
      'Model:  m',
      'Run:    f',
    ]);
  });
});

describe('--json', () => {
  it('gives one object a line with snake_case keys and the time', () => {
    const stream = new FakeStream(true);
    const reporter = createReporter({ stream, json: true });
    reportAll(reporter, [steps(), epoch, evaluation]);
    reporter.close();
    const records = stream.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      records.map((record) => record['type']),
      ['steps', 'epoch', 'evaluation'],
    );
    assert.equal(records[0]!['samples_per_second'], 1234.5);
    assert.ok(!Number.isNaN(Date.parse(String(records[0]!['time']))));
  });
});

describe('figures', () => {
  it('are written for people', () => {
    assert.deepEqual([clock(0), clock(65), clock(7389), clock(-1)], ['0:00', '1:05', '2:03:09', '0:00']);
    assert.deepEqual(
      [bytes(12), bytes(640e6), bytes(1.24e9), bytes(25e9)],
      ['12 B', '640 MB', '1.2 GB', '25 GB'],
    );
    assert.deepEqual([count(3.14159), count(3), count(1234.6)], ['3.1', '3', '1,235']);
    assert.deepEqual([rate(0.1), rate(0.023456), rate(1.234e-6), rate(0)], ['0.1', '0.0235', '1.2e-6', '0']);
    assert.equal(percent(0.7123), '71.2 %');
  });

  it('stand in columns', () => {
    assert.equal(
      table(
        [
          ['a', '1'],
          ['bcd', '22'],
        ],
        [1],
      ),
      'a     1\nbcd  22',
    );
  });

  it('a bar is filled in eighths and never beyond its width', () => {
    assert.equal(bar(0, 4), '░░░░');
    assert.equal(bar(0.5, 4), '██░░');
    assert.equal(bar(0.53125, 4), '██▏░');
    assert.equal(bar(2, 4), '████');
    assert.equal(bar(-1, 4), '░░░░');
  });

  it('a finished line stands above the status line', () => {
    const stream = new FakeStream(true);
    const status = new StatusLine(stream, () => 0);
    status.draw('working');
    status.print('one');
    status.draw('still');
    assert.deepEqual(screen(stream.text), ['one', 'still']);
  });
});
