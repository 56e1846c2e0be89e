/** Whether a run may go on from a checkpoint, and what stands in the way. */
import { configSchema, type Config } from '../config/schema.js';
import { toSnake } from '../config/case.js';
import { resumeClass } from '../config/resume_keys.js';
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

/** Lines such as `train.lr: 0.1 → 0.2` for every setting that matters and differs. */
export function configDifferences(before: ComparedConfig, now: ComparedConfig): string[] {
  const a = leaves(withDefaults(before), '', new Map());
  const b = leaves(now, '', new Map());
  return (
    [...new Set([...a.keys(), ...b.keys()])]
      .filter((key) => resumeClass(key) !== 'free' && a.get(key) !== b.get(key))
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
  const [were, are] = [state.computed.processes ?? 1, now.computed.processes ?? 1];
  if (were !== are) {
    lines.push(`processes: ${were} → ${are}`);
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
  const epochs = (config: ComparedConfig): unknown =>
    (config.train as { epochs?: unknown } | undefined)?.epochs;
  const before = epochs(state.config);
  if (before !== epochs(now.config)) {
    warn(
      `train.epochs changed from ${String(before)} to ${String(epochs(now.config))}: the learning rate follows the new length from here on`,
    );
  }
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
