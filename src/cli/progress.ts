/**
 * The one reporter of long jobs: a progress bar on a terminal, plain lines elsewhere, one JSON object a line for
 * machines. Jobs send events (src/train/events.ts) and know nothing of where they end up.
 */
import { formatSize } from '../config/size.js';
import type {
  EpochEvent,
  EvaluationEvent,
  EvaluationMetrics,
  JobEvent,
  LearningRateProgressEvent,
  Report,
  StepsEvent,
} from '../train/events.js';
import { eventRecord } from '../train/events.js';
import { bar, StatusLine, type TerminalStream } from './progress_bar.js';
import { bytes, clock, count, paint, percent, rate } from './terminal.js';

/** Plain logs get a line about steps at most this often. */
const PLAIN_INTERVAL_MS = 10_000;
const BAR_WIDTH = 24;

export interface Reporter {
  report: Report;
  /** Gives the terminal back; call it before anything else is printed. */
  close(): void;
}

export interface ReporterOptions {
  json?: boolean;
  stream?: TerminalStream & { isTTY?: boolean };
  now?: () => number;
}

export function createReporter(options: ReporterOptions = {}): Reporter {
  const stream = options.stream ?? process.stdout;
  if (options.json) {
    return {
      report: (event) => void stream.write(JSON.stringify(eventRecord(event)) + '\n'),
      close: () => undefined,
    };
  }
  return stream.isTTY && process.env['TERM'] !== 'dumb'
    ? new TerminalReporter(stream, options.now)
    : new PlainReporter(stream, options.now);
}

function stepFigures(event: StepsEvent): string[] {
  const figures = [
    `${count(event.samplesPerSecond)} img/s`,
    `loss ${event.epochLoss.toFixed(3)}`,
    `lr ${rate(event.lr)}`,
    bytes(event.memory),
    `ETA ${clock(event.etaSeconds)}`,
  ];
  // Worth a word only when the device waits for the loader.
  if (event.waitShare > 0.1) figures.push(`waiting for data ${percent(event.waitShare)}`);
  if (event.skipped) figures.push(`${event.skipped} steps skipped (scale ${event.scale ?? 0})`);
  return figures;
}

const TRYING = 'Trying learning rates';

function triedRate({ done, total, lr, loss }: LearningRateProgressEvent): string {
  return `${count(done)}/${count(total)}  lr ${rate(lr)}  loss ${loss.toFixed(3)}`;
}

/** Events that come many times a second: they move a bar and leave no lines. */
const PROGRESS = ['steps', 'data_progress', 'evaluation_progress', 'lr_find_progress'];

/** @param width of the figures, for lines that stand in columns */
function metricFigures(event: EvaluationMetrics, width = 0): string[] {
  const figures: string[] = [];
  if (event.top1 !== null) figures.push(`top-1 ${percent(event.top1).padStart(width)}`);
  if (event.top5 !== null) figures.push(`top-5 ${percent(event.top5).padStart(width)}`);
  if (event.loss !== null) figures.push(`val loss ${event.loss.toFixed(3).padStart(Math.max(0, width - 1))}`);
  for (const [name, value] of Object.entries(event.metrics ?? {})) {
    figures.push(`${name} ${value === null ? 'none' : value.toPrecision(4)}`);
  }
  return figures;
}

function epochTitle(epoch: number, epochs: number): string {
  return `epoch ${String(epoch).padStart(String(epochs).length)}/${epochs}`;
}

/** What both kinds of text share: every event but the fast ones becomes a line that stays. */
abstract class TextReporter implements Reporter {
  private epoch: EpochEvent | null = null;

  protected abstract line(text: string): void;
  protected abstract progress(event: JobEvent): void;
  abstract close(): void;

  readonly report: Report = (event) => {
    if (event.type === 'epoch') {
      this.flushEpoch();
      this.epoch = event;
      return;
    }
    if (event.type === 'evaluation') return this.evaluated(event);
    if (event.type !== 'evaluation_progress') this.flushEpoch();
    if (PROGRESS.includes(event.type)) {
      this.progress(event);
    } else for (const text of describe(event)) this.line(text);
  };

  /** An epoch and its evaluation stand in one line. */
  private evaluated(event: EvaluationEvent): void {
    const epoch = this.epoch;
    const star = event.best ? paint('  best', 'green') : '';
    if (epoch && event.epoch === epoch.epoch) {
      this.epoch = null;
      this.line([...epochFigures(epoch), ...metricFigures(event, 7)].join('  ') + star);
      return;
    }
    this.flushEpoch();
    // The weights of the last epoch, whose figures are told already.
    if (event.weights === 'last' && event.epoch === null) return;
    const which = {
      last: 'evaluation',
      best: 'best weights',
      average: 'averaged weights',
      file: 'evaluation',
    }[event.weights];
    this.line([which, ...metricFigures(event), `${count(event.samples)} images`].join('  '));
  }

  protected flushEpoch(): void {
    const { epoch } = this;
    this.epoch = null;
    if (epoch) this.line(epochFigures(epoch).join('  '));
  }
}

function epochFigures(epoch: EpochEvent): string[] {
  return [
    epochTitle(epoch.epoch, epoch.epochs),
    `loss ${epoch.loss.toFixed(3)}`,
    // Padded, so that the epochs stand in columns.
    `lr ${rate(epoch.lr).padEnd(7)}`,
    `${count(epoch.samplesPerSecond).padStart(5)} img/s`,
    clock(epoch.seconds).padStart(5),
  ];
}

/** Lines for the events that happen now and then. */
function describe(event: JobEvent): string[] {
  switch (event.type) {
    case 'info':
      return [event.heading ? paint(event.message, ['bold', 'cyan']) : event.message];
    case 'device':
    case 'precision':
    case 'batch_size':
    case 'memory':
    case 'resumed':
      return [event.message];
    case 'not_finite':
      // The error that ends the run says the same.
      if (event.action === 'stop') return [];
      return [`${paint('warning:', 'yellow')} ${event.message}`];
    case 'out_of_memory':
      return [`${paint('warning:', 'yellow')} ${event.message}`];
    case 'skipped':
    case 'stopped':
      return [paint(event.message, 'yellow')];
    case 'warning':
      return [`${paint('warning:', 'yellow')} ${event.message}`];
    case 'start': {
      const held = event.evalSamples === null ? '' : `, ${count(event.evalSamples)} for validation`;
      return [
        `${paint(event.model, 'bold')}: ${count(event.parameters)} parameters, ${event.classes} classes; ` +
          `${count(event.trainSamples)} images${held}; ` +
          `${event.epochs} epochs of ${count(event.stepsPerEpoch)} steps` +
          (event.firstStep > 0 ? `, going on at step ${count(event.firstStep)}` : ''),
      ];
    }
    case 'interrupted':
      return [
        `Stopped after step ${count(event.step)}. ` +
          (event.checkpoint === null
            ? 'No checkpoint was written.'
            : `Checkpoint: ${event.checkpoint}\nGo on with --resume.`),
      ];
    case 'done': {
      const metrics = event.metrics === null ? '' : `: ${metricFigures(event.metrics).join(', ')}`;
      return [
        `${paint('Done', 'green')} in ${clock(event.seconds)}${metrics}`,
        ...(event.peakMemory === null ? [] : [`Memory: ${formatSize(event.peakMemory)} at most for tensors`]),
        ...(event.modelPath === null ? [] : [`Model:  ${event.modelPath}`]),
        ...(event.folder === null ? [] : [`Run:    ${event.folder}`]),
      ];
    }
    default:
      // Checkpoints are routine: events.jsonl has them.
      return [];
  }
}

class TerminalReporter extends TextReporter {
  private readonly status: StatusLine;
  /** However the process ends, the cursor comes back. */
  private readonly onExit = (): void => this.status.clear();

  constructor(stream: TerminalStream, now?: () => number) {
    super();
    this.status = new StatusLine(stream, now);
    process.once('exit', this.onExit);
  }

  protected line(text: string): void {
    this.status.print(text);
  }

  protected progress(event: JobEvent): void {
    if (event.type === 'steps') {
      const share = event.epochStep / Math.max(1, event.stepsPerEpoch);
      const title = epochTitle(event.epoch, event.epochs);
      this.status.draw([title, this.bar(share), ...stepFigures(event)].join('  '));
    } else if (event.type === 'data_progress') {
      const share = event.done / Math.max(1, event.total);
      const title = `${event.stage} (${event.split})`;
      this.status.draw(`${title}  ${this.bar(share)}  ${count(event.done)}/${count(event.total)}`);
    } else if (event.type === 'lr_find_progress') {
      const share = event.done / Math.max(1, event.total);
      this.status.draw(`${TRYING}  ${this.bar(share)}  ${triedRate(event)}`);
    } else if (event.type === 'evaluation_progress') {
      const share = event.done / Math.max(1, event.total);
      this.status.draw(`evaluation  ${this.bar(share)}  ${count(event.done)}/${count(event.total)}`);
    }
  }

  private bar(share: number): string {
    return `${bar(share, BAR_WIDTH)} ${String(Math.floor(share * 100)).padStart(3)} %`;
  }

  close(): void {
    this.flushEpoch();
    this.status.clear();
    process.off('exit', this.onExit);
  }
}

class PlainReporter extends TextReporter {
  private last = -Infinity;

  constructor(
    private readonly stream: TerminalStream,
    private readonly now: () => number = () => performance.now(),
  ) {
    super();
  }

  protected line(text: string): void {
    this.stream.write(text + '\n');
  }

  protected progress(event: JobEvent): void {
    const time = this.now();
    const counted = event.type === 'data_progress' || event.type === 'lr_find_progress';
    const finished = counted && event.done === event.total;
    if (!finished && time - this.last < PLAIN_INTERVAL_MS) return;
    if (event.type === 'steps') {
      const title = `${epochTitle(event.epoch, event.epochs)} step ${event.epochStep}/${event.stepsPerEpoch}`;
      this.line([title, ...stepFigures(event)].join('  '));
    } else if (event.type === 'data_progress') {
      this.line(`${event.stage} (${event.split})  ${count(event.done)}/${count(event.total)}`);
    } else if (event.type === 'lr_find_progress') {
      this.line(`${TRYING}  ${triedRate(event)}`);
    } else return;
    this.last = time;
  }

  close(): void {
    this.flushEpoch();
  }
}
