/** Whether a run may go on from a checkpoint, and what stands in the way. */
import { configSchema, type Config } from '../config/schema.js';
import { toSnake } from '../config/case.js';
import { resumeClass } from '../config/resume_keys.js';
import { defaultRate } from '../config/resolve.js';
import { TrainError } from '../errors.js';
import type { Checkpoint, CheckpointState } from './checkpoint.js';

/** Settings that decide what a run computes. Everything else may change between a run and its continuation. */
export type ComparedConfig = Record<string, unknown>;

/** The configuration in snake_case, as checkpoints keep it. */
export function comparedConfig(config: Pick<Config, 'train'> & Partial<Config>): ComparedConfig {
  return JSON.parse(JSON.stringify(toSnake(config))) as ComparedConfig;
}

/** Keys whose `auto` may be written as what it came to. */
const FOUND: ReadonlySet<string> = new Set(['train.batch_size', 'train.lr']);

function leaves(value: unknown, path: string, into: Map<string, string>): Map<string, string> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, item] of Object.entries(value)) leaves(item, path ? `${path}.${key}` : key, into);
  } else into.set(path, JSON.stringify(value));
  return into;
}

/** Keys that came with a later version of Fornax had the effect of their defaults. */
function withDefaults(before: ComparedConfig): ComparedConfig {
  const parsed = configSchema.safeParse(before);
  if (!parsed.success) return before;
  const filled = parsed.data as Record<string, unknown>;
  return Object.fromEntries(Object.keys(before).map((section) => [section, filled[section]]));
}

/** Whether the schedule counts evaluations, and there would be more or fewer of them. */
function isCounted(key: string, before: Map<string, string>, now: Map<string, string>): boolean {
  if (key !== 'eval.every_epochs' || !before.has(key) || !now.has(key)) return false;
  return before.get('train.schedule.name') === '"reduce_on_plateau"';
}

/** Lines such as `train.lr: 0.1 → 0.2` for every setting that matters and differs. */
export function configDifferences(before: ComparedConfig, now: ComparedConfig): string[] {
  const a = leaves(withDefaults(before), '', new Map());
  const b = leaves(now, '', new Map());
  return (
    [...new Set([...a.keys(), ...b.keys()])]
      .filter((key) => a.get(key) !== b.get(key) && (resumeClass(key) !== 'free' || isCounted(key, a, b)))
      // Found when the run began, and kept: `auto` asks for nothing else.
      .filter((key) => !(FOUND.has(key) && b.get(key) === '"auto"'))
      .map((key) => `${key}: ${a.get(key) ?? '(not set)'} → ${b.get(key) ?? '(not set)'}`)
  );
}

export interface ResumeIdentity {
  config: ComparedConfig;
  computed: CheckpointState['computed'];
  dataFingerprint: string;
  graphHash: string;
  /** Of what the run is given beside its config, by what it is: `loss`, `metrics.mae`, `teacher`. */
  hashes?: Readonly<Record<string, string>>;
  stepsPerEpoch: number;
}

/**
 * @param warn is told of differences that are allowed, but change the result.
 * @throws TrainError listing every difference that is not.
 */
export function checkResumable(
  checkpoint: Checkpoint,
  now: ResumeIdentity,
  warn: (message: string) => void,
): void {
  const { state } = checkpoint;
  const lines = configDifferences(state.config, now.config);
  if (state.graph_hash !== now.graphHash) {
    lines.push(
      `model: its graph is another one (${state.graph_hash.slice(0, 12)} → ${now.graphHash.slice(0, 12)})`,
    );
  }
  if (state.data_fingerprint !== now.dataFingerprint) {
    lines.push(
      `data: the training images are others (${state.data_fingerprint.slice(0, 12)} → ${now.dataFingerprint.slice(0, 12)})`,
    );
  }
  for (const [name, hash] of Object.entries(state.hashes ?? {})) {
    const other = now.hashes?.[name] ?? hash;
    if (other !== hash)
      lines.push(`${name}: it is another one (${hash.slice(0, 12)} → ${other.slice(0, 12)})`);
  }
  lines.push(...epochsDone(state, now.config));
  const [were, are] = [state.computed.processes ?? 1, now.computed.processes ?? 1];
  if (were !== are) {
    const rate = consequence(state.config, were, now.config, are);
    lines.splice(0, lines.length, ...lines.filter((line) => line !== rate), `processes: ${were} → ${are}`);
  }
  if (lines.length === 0 && state.steps_per_epoch !== now.stepsPerEpoch) {
    lines.push(`steps per epoch: ${state.steps_per_epoch} → ${now.stepsPerEpoch}`);
  }
  if (lines.length > 0) {
    throw new TrainError({
      what: `this run cannot go on from its checkpoint, because it changed:\n  - ${lines.join('\n  - ')}`,
      where: checkpoint.path,
      fix: 'restore these settings, start over with --force, or use another name for a new run (--set name=…)',
    });
  }
  // Which nodes are in bf16 is decided once for a run.
  const lower = lowerNodes(state);
  const was = describeComputed(state.computed, lower);
  const is = describeComputed(now.computed, lower);
  if (was !== is)
    warn(`so far this run was computed on ${was}, from here on ${is}: not the same to the last bit`);
  const before = trainOf(state.config).epochs;
  const after = trainOf(now.config).epochs;
  if (before !== after && followsLength(now.config)) {
    warn(
      `train.epochs changed from ${String(before)} to ${String(after)}: the learning rate follows the new length from here on`,
    );
  }
}

interface ComparedTrain {
  epochs?: unknown;
  lr?: unknown;
  batch_size?: unknown;
  grad_accum?: unknown;
  optimizer?: { name?: unknown };
  schedule?: { name?: unknown };
}

function trainOf({ train }: ComparedConfig): ComparedTrain {
  return (train ?? {}) as ComparedTrain;
}

/** Whether the rate of a step depends on how many there are in all. */
function followsLength(config: ComparedConfig): boolean {
  return ['cosine', 'polynomial', 'one_cycle'].includes(String(trainOf(config).schedule?.name));
}

/** Fewer epochs than were trained: there is nothing to go on with, and no model of that length. */
function epochsDone({ epoch, epoch_step: step }: CheckpointState, now: ComparedConfig): string[] {
  const { epochs } = trainOf(now);
  const begun = epoch + (step > 0 ? 1 : 0);
  if (typeof epochs !== 'number' || epochs >= begun) return [];
  const how = step > 0 ? `epoch ${begun} was begun` : `${epoch} were trained`;
  return [`train.epochs: ${epochs}, and ${how} already`];
}

/** The difference in the learning rate that comes of nothing but the number of processes (`lr: auto`). */
function consequence(before: ComparedConfig, were: number, now: ComparedConfig, are: number): string | null {
  const auto = (config: ComparedConfig, processes: number): boolean => {
    const { lr, optimizer, batch_size: rows, grad_accum: accum } = trainOf(config);
    const name = optimizer?.name;
    return typeof name === 'string' && lr === defaultRate(name, Number(rows) * Number(accum) * processes);
  };
  if (!auto(before, were) || !auto(now, are)) return null;
  return `train.lr: ${String(trainOf(before).lr)} → ${String(trainOf(now).lr)}`;
}

/** Whether a run goes on for more epochs than it had when the checkpoint was written. */
export function isExtended({ state }: Checkpoint, { train }: Pick<Config, 'train'>): boolean {
  const before = trainOf(state.config).epochs;
  return typeof before === 'number' && before < train.epochs;
}

/** Whether single nodes are in bf16 on a CPU: as configured (`train.precision`), or as measured. */
function lowerNodes({ config, parts }: CheckpointState): boolean {
  const { precision } = (config.train ?? {}) as { precision?: unknown };
  const { bf16 } = (parts.precision ?? {}) as { bf16?: unknown };
  return (precision ?? null) !== null || (Array.isArray(bf16) && bf16.length > 0);
}

function describeComputed({ device, amp, threads }: CheckpointState['computed'], lower: boolean): string {
  const precision = amp !== 'off' ? amp : lower && device === 'cpu' ? 'fp32 and bf16' : 'fp32';
  const on = `${threads} thread${threads === 1 ? '' : 's'}`;
  return device === 'cpu' ? `cpu (${precision}, ${on})` : `${device} (${precision})`;
}
