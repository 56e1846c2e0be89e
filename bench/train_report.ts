/** The report of `npm run bench:train` in Markdown. Pure: figures in, text out. */
import type { Spread } from './row.js';
import { baselineOn, type TrainCase, type Variant } from './train_case.js';

export interface MeasuredVariant {
  variant: Variant;
  /** Milliseconds of a step: median of the rounds' medians. */
  time: Spread;
  /** Milliseconds of processor time of a step. */
  cpu: number;
  /** Minor page faults of a step; null where they were not counted. */
  faults: number | null;
  /** Share of the steps that were repeated from a recording (CUDA graphs). */
  repeated: number;
  /** Peak bytes. */
  memory: number;
  /** Of the first step: what compiling, measuring and warming up take. */
  firstSeconds: number;
  libtorch: string;
}

export type VariantResult = MeasuredVariant | { variant: Variant; failed: string };

export interface CheckpointFigures {
  variant: Variant;
  /** Milliseconds in which no step is computed. */
  pause: number;
  /** Milliseconds that training lost in all, writing in the background included; null: all is pause. */
  held: number | null;
  /** Milliseconds until it is on the disk; null: as `pause`. */
  written: number | null;
  /** Milliseconds of processor time, where nothing is computed beside it. */
  processor: number;
  bytes: number;
  /** Milliseconds from building the model to the end of the first step. */
  resume: number;
}

export interface TrainResult {
  setting: TrainCase;
  variants: VariantResult[];
  /** Convolutions and linear layers alone; null without a peer. */
  floor: { milliseconds: number; fastest: Record<string, number> } | null;
  /**
   * Milliseconds of a step of Fornax while an evaluation session is open: one that has been idle for a while, and one
   * that has just computed and still keeps its threads.
   */
  beside: { idle: number; busy: number };
  /** Null where they were not measured. */
  checkpoints: CheckpointFigures[] | null;
}

/** @returns NaN for no values */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

function measured(result: TrainResult, id: string): MeasuredVariant | null {
  const found = result.variants.find(({ variant }) => variant.id === id);
  return found && 'time' in found ? found : null;
}

export interface Ratios {
  /** Time of plain PyTorch over Fornax's: above 1 Fornax is faster. */
  baseline: number | null;
  /** Of the fastest of the peers, and which that is. */
  fastest: number | null;
  fastestPeer: string | null;
  /** Processor time of plain PyTorch over Fornax's. */
  cpu: number | null;
}

export function ratios(result: TrainResult): Ratios {
  const own = measured(result, 'fornax');
  const baseline = measured(result, baselineOn(result.setting.device));
  const peers = result.variants.filter(
    (each): each is MeasuredVariant => 'time' in each && each.variant.side === 'peer',
  );
  const fastest = peers.reduce<MeasuredVariant | null>(
    (best, peer) => (best === null || peer.time.median < best.time.median ? peer : best),
    null,
  );
  return {
    baseline: own && baseline && baseline.time.median / own.time.median,
    fastest: own && fastest && fastest.time.median / own.time.median,
    fastestPeer: fastest?.variant.title ?? null,
    cpu: own && baseline && baseline.cpu / own.cpu,
  };
}

/** How much of the step is its floor. What the rest is only a profile can tell: the page says it in words. */
export function floorShare(result: TrainResult): string {
  const own = measured(result, 'fornax');
  if (!own || !result.floor) return '';
  const share = result.floor.milliseconds / own.time.median;
  const percent = `${(100 * share).toFixed(0)} %`;
  if (share >= 1)
    return `convolution and linear layers are faster here than the peer's (its floor: ${percent} of the step)`;
  return `convolution and linear layers alone are ${percent} of the step`;
}

function number(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function range({ median, low, high, runs }: Spread): string {
  return runs > 1 ? `${number(median)} (${number(low)}–${number(high)})` : number(median);
}

function times(value: number | null): string {
  return value === null ? '–' : `${value.toFixed(2)}×`;
}

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** One row per case, one column per variant. */
function byVariant(
  results: readonly TrainResult[],
  variants: readonly Variant[],
  cell: (found: MeasuredVariant, result: TrainResult) => string,
): string[][] {
  return results.map((result) => [
    result.setting.name,
    ...variants.map(({ id }) => {
      const found = result.variants.find(({ variant }) => variant.id === id);
      if (!found) return '–';
      return 'failed' in found ? 'failed' : cell(found, result);
    }),
  ]);
}

/** The mean of what has a figure; `–` where nothing has. */
function mean(values: readonly (number | null)[]): string {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? '–' : times(geometricMean(known));
}

function timeTable(results: readonly TrainResult[], variants: readonly Variant[]): string {
  const all = results.map(ratios);
  const baseline = variants.find(({ id }) => id === baselineOn(results[0]!.setting.device));
  const head = ['ms a step', ...variants.map(({ title }) => title)];
  head.push(`over ${baseline?.title ?? 'eager'}`, 'over the fastest peer', 'floor');
  const body = byVariant(results, variants, ({ time }) => range(time)).map((cells, i) => [
    ...cells,
    times(all[i]!.baseline),
    all[i]!.fastest === null ? '–' : `${times(all[i]!.fastest)} (${all[i]!.fastestPeer!})`,
    results[i]!.floor === null ? '–' : number(results[i]!.floor!.milliseconds),
  ]);
  const means = [
    '**geometric mean**',
    ...variants.map(() => ''),
    `**${mean(all.map((each) => each.baseline))}**`,
    `**${mean(all.map((each) => each.fastest))}**`,
    '',
  ];
  return table(head, [...body, means]);
}

function throughputTable(results: readonly TrainResult[], variants: readonly Variant[]): string {
  const head = ['images/s', ...variants.map(({ title }) => title)];
  const rows = byVariant(results, variants, ({ time }, { setting }) =>
    number((1000 * setting.shape[0]!) / time.median),
  );
  return table(head, rows);
}

function processorTable(results: readonly TrainResult[], variants: readonly Variant[]): string {
  const all = results.map(ratios);
  const head = ['processor ms a step', ...variants.map(({ title }) => title), 'ratio'];
  const rows = byVariant(results, variants, ({ cpu }) => number(cpu)).map((cells, i) => [
    ...cells,
    times(all[i]!.cpu),
  ]);
  rows.push(['**geometric mean**', ...variants.map(() => ''), `**${mean(all.map(({ cpu }) => cpu))}**`]);
  return table(head, rows);
}

function memoryTable(results: readonly TrainResult[], variants: readonly Variant[]): string {
  const head = ['peak memory, MiB', ...variants.map(({ title }) => title)];
  return table(
    head,
    byVariant(results, variants, ({ memory }) => number(memory / 2 ** 20)),
  );
}

function checkpointTable(results: readonly TrainResult[]): string | null {
  const rows = results.flatMap(({ setting, checkpoints }) =>
    (checkpoints ?? []).map((each) => [
      setting.name,
      each.variant.side === 'fornax' ? each.variant.title : `PyTorch, torch.save`,
      number(each.bytes / 2 ** 20),
      number(each.pause),
      number(each.held ?? each.pause),
      number(each.written ?? each.pause),
      number(each.processor),
      number(each.resume),
    ]),
  );
  if (rows.length === 0) return null;
  const milliseconds = ['pause', 'training lost', 'on disk after', 'processor', 'resume'];
  return table(['checkpoint', '', 'MiB', ...milliseconds.map((each) => `${each}, ms`)], rows);
}

function remarks(results: readonly TrainResult[]): string {
  const lines = results.flatMap((result) => {
    const own = measured(result, 'fornax');
    const parts: string[] = [];
    const share = floorShare(result);
    if (share) parts.push(share);
    if (result.floor) {
      const fastest = Object.entries(result.floor.fastest).filter(([, layers]) => layers > 0);
      parts.push(`floor: ${fastest.map(([dtype, layers]) => `${layers} layers in ${dtype}`).join(', ')}`);
    }
    if (own?.faults != null) parts.push(`${own.faults.toFixed(0)} page faults a step`);
    if (result.setting.device === 'cuda' && own) {
      parts.push(`${(100 * own.repeated).toFixed(0)} % of the steps of Fornax are replays of a CUDA graph`);
    }
    const { idle, busy } = result.beside;
    parts.push(
      `beside an open evaluation session ${number(idle)} ms a step, ${number(busy)} ms right after it computed`,
    );
    for (const each of result.variants) {
      if ('failed' in each) parts.push(`${each.variant.title} failed (${each.failed})`);
      else if (each.variant.id.startsWith('compile')) {
        parts.push(
          `${each.variant.title} took ${number(each.firstSeconds)} s to its first step, not counted`,
        );
      }
    }
    return parts.length === 0 ? [] : [`- ${result.setting.name}: ${parts.join('; ')}.`];
  });
  return lines.join('\n');
}

/** Versions of libtorch that the sides run on, where they are not one. */
function differentLibraries(results: readonly TrainResult[]): string[] {
  const of = (side: Variant['side']): Set<string> =>
    new Set(
      results.flatMap(({ variants }) =>
        variants.flatMap((each) => ('time' in each && each.variant.side === side ? [each.libtorch] : [])),
      ),
    );
  const base = (version: string): string => version.split('+')[0]!;
  const [own, peer] = [[...of('fornax')], [...of('peer')]];
  if (own.length === 0 || peer.length === 0 || base(own[0]!) === base(peer[0]!)) return [];
  return [`The sides run on different versions of libtorch: Fornax on ${own[0]!}, PyTorch on ${peer[0]!}.`];
}

const EXPLANATION =
  '_floor_: forward and backward of the convolutions and linear layers alone, timed in the peer layer by layer on warm memory, each in the faster of the precisions. _training lost_: what steps while a checkpoint is written in the background take longer, and its pause. _processor_: of writing one with nothing beside it. _resume_: from building the model to the end of the first step, reading and checking the checkpoint included. Processor time is what all threads together took.';

/** @param results at least one, all of one device */
export function trainReport(results: readonly TrainResult[]): string {
  const seen = new Map(
    results.flatMap(({ variants }) => variants.map(({ variant }) => [variant.id, variant] as const)),
  );
  const order = ['fornax', 'fp32', 'no_graphs', 'eager', 'amp', 'compile', 'compile_amp'];
  const variants = [...seen.values()].sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id));
  return [
    timeTable(results, variants),
    throughputTable(results, variants),
    processorTable(results, variants),
    memoryTable(results, variants),
    checkpointTable(results),
    ...differentLibraries(results),
    EXPLANATION,
    remarks(results),
  ]
    .filter((part) => part)
    .join('\n\n');
}
