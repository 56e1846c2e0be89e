/**
 * Precision of single convolutions and matrix products of a training on a CPU: configured by module path
 * (`train.precision`), or measured before the first step (`train.amp: auto`) and then part of the run, so that a
 * resumed run computes the same.
 */
import { z } from 'zod';

import type { Config } from '../config/schema.js';
import { ConfigError, DeviceError } from '../errors.js';
import type {
  MeasureRequest,
  PrecisionMeasurement,
  PrecisionNode,
  PrecisionVerdict,
} from '../native/contract.js';
import { loadAddon } from '../native.js';
import { nearest } from '../nearest.js';
import { isUnder } from './parameter_groups.js';
import type { PrecisionEvent } from './events.js';
import type { Opening, RunFeature } from './run_features.js';

/** What was measured, and under which circumstances. Stored in the run: snake_case. */
const decisionSchema = z.object({
  bf16: z.array(z.string()),
  nodes: z.int(),
  reason: z.enum(['measured', 'no_gain', 'too_small', 'unsupported']),
  batch: z.int(),
  nodes_fp32_ms: z.number(),
  nodes_plan_ms: z.number(),
  step_fp32_ms: z.number(),
  step_plan_ms: z.number(),
  seconds: z.number(),
  // Runs from before it was written down have none.
  processor_share: z.number().optional(),
  threads: z.int(),
});
type Decision = z.infer<typeof decisionSchema>;

type PrecisionConfig = NonNullable<Config['train']['precision']>;

/**
 * Names of the nodes that are to be computed in bf16.
 *
 * @throws ConfigError for a path with no convolution or matrix product under it.
 */
export function configuredPrecision(nodes: readonly PrecisionNode[], config: PrecisionConfig): string[] {
  const covers = (path: string, node: PrecisionNode): boolean =>
    node.name === path || isUnder(node.path, path);
  for (const kind of ['fp32', 'bf16'] as const) {
    for (const [i, path] of config[kind].entries()) {
      if (nodes.some((node) => covers(path, node))) continue;
      const near = nearest(path, pathsOf(nodes));
      throw new ConfigError({
        what: `no convolution or matrix product of the model is under '${path}'`,
        where: `train.precision.${kind}[${i}]`,
        fix: near ? `did you mean '${near}'?` : 'see `model.summary()` for the paths',
      });
    }
  }
  const longest = (paths: readonly string[], node: PrecisionNode): number =>
    Math.max(-1, ...paths.filter((path) => covers(path, node)).map((path) => path.length));
  return nodes
    .filter((node) => {
      const [full, lower] = [longest(config.fp32, node), longest(config.bf16, node)];
      return full === lower ? config.default === 'bf16' : lower > full;
    })
    .map(({ name }) => name);
}

function pathsOf(nodes: readonly PrecisionNode[]): Set<string> {
  const paths = new Set<string>();
  for (const { path, name } of nodes) {
    const parts = path.split('.');
    for (let i = 1; i <= parts.length; i++) paths.add(parts.slice(0, i).join('.'));
    paths.add(name);
  }
  return paths;
}

/** Threads of an operator on the CPU. */
function threadsOf({ threads }: Config['train']): number {
  return threads === 'auto' ? loadAddon().systemInfo().threads : threads;
}

/** Shape and dtype of each input of the model for a batch of the run; null where that is not known. */
function inputShapes({ options, train, session }: Opening): MeasureRequest['inputs'] | null {
  const { data, model } = options;
  const rows = Math.min(train.batchSize, session.micro_batch || Infinity, data.trainSamples);
  const { inputs } = model.graph;
  if (data.preprocessing) {
    const { channels, size } = data.preprocessing;
    const fits = inputs.length === 1 && (inputs[0]!.rank ?? 4) === 4;
    return fits ? [{ shape: [rows, channels, ...size], dtype: 'float32' }] : null;
  }
  const loader = data.loaderOptions('train', { batchSize: train.batchSize, seed: train.seed });
  if (!('fields' in loader)) return null;
  const shapes = inputs.map(({ name }) => {
    const field = loader.fields[name] ?? (inputs.length === 1 ? loader.fields['image'] : undefined);
    return field && { shape: [rows, ...field.shape.slice(1)], dtype: field.dtype };
  });
  return shapes.every((shape) => shape !== undefined) ? shapes : null;
}

/** @throws AbortedError soon after the signal fires */
async function measured(
  { verdict, stop }: PrecisionMeasurement,
  signal: AbortSignal | undefined,
): Promise<PrecisionVerdict> {
  if (signal?.aborted) stop();
  signal?.addEventListener('abort', stop);
  try {
    return await verdict;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

async function measure(opening: Opening): Promise<Decision | null> {
  const { options, train, stepsPerEpoch, session, processes } = opening;
  const inputs = inputShapes(opening);
  if (!inputs) return null;
  const epochs = Math.min(train.epochs, options.epochLimit ?? Infinity);
  const request = { inputs, steps: epochs * stepsPerEpoch };
  try {
    // Several processes wait for the answer: they stop together, before the first step.
    const signal = processes.group ? undefined : options.signal;
    const verdict = await measured(
      loadAddon().measurePrecision(options.model.native, session, request),
      signal,
    );
    return { ...verdict, threads: threadsOf(train) };
  } catch (error) {
    // Without the memory for a copy of the model, training itself may still have enough.
    if (!(error instanceof DeviceError)) throw error;
    const message = `Precision was not measured, so that training is in float32: ${error.what}`;
    options.report({ type: 'warning', message });
    return null;
  }
}

/** Share of the time below which others were using the processors while it was measured. */
const QUIET = 0.8;

/** The line that tells what was decided, and how far it is to be trusted; null where there is nothing to tell. */
export function describePrecision(
  verdict: Omit<PrecisionVerdict, 'processor_share'> & Pick<Decision, 'processor_share'>,
  nodes: readonly PrecisionNode[],
  how: 'measured' | 'kept',
): string | null {
  const { reason, bf16, nodes_fp32_ms, nodes_plan_ms, step_fp32_ms, step_plan_ms } = verdict;
  if (reason === 'unsupported') return null;
  if (reason === 'too_small') {
    return 'Precision: float32 throughout (not measured: this training is too short to gain from bf16)';
  }
  const times = (before: number, after: number): string => `${(before / after).toFixed(2)}x`;
  const share = verdict.processor_share ?? 1;
  const busy =
    share < QUIET ? `, on a busy machine that gave it ${Math.round(100 * share)} % of a processor` : '';
  const source =
    how === 'kept' ? `as when the run began${busy}` : `measured in ${verdict.seconds.toFixed(1)} s${busy}`;
  if (reason === 'no_gain') {
    const again = busy ? '; a new run measures again, train.precision names layers by hand' : '';
    return `Precision: float32 throughout (${source}: bf16 is not faster here${again})`;
  }
  return (
    `Precision: ${countNodes(bf16, nodes)} (${source}: ${times(nodes_fp32_ms, nodes_plan_ms)} on these, ` +
    `${times(step_fp32_ms, step_plan_ms)} on a whole step)`
  );
}

/** `35 of 52 convolutions and 1 of 1 matrix products in bf16, the others in float32`. */
function countNodes(bf16: readonly string[], nodes: readonly PrecisionNode[]): string {
  const lower = new Set(bf16);
  const isConvolution = ({ op }: PrecisionNode): boolean => op.startsWith('aten::conv');
  const parts = (
    [
      ['convolutions', nodes.filter(isConvolution)],
      ['matrix products', nodes.filter((node) => !isConvolution(node))],
    ] as const
  )
    .filter(([, all]) => all.length > 0)
    .map(([name, all]) => `${all.filter((node) => lower.has(node.name)).length} of ${all.length} ${name}`);
  return `${parts.join(' and ')} in bf16${lower.size < nodes.length ? ', the others in float32' : ''}`;
}

function event(
  bf16: readonly string[],
  nodes: readonly PrecisionNode[],
  source: PrecisionEvent['source'],
  message: string,
): PrecisionEvent {
  return { type: 'precision', bf16: [...bf16], nodes: nodes.length, source, message };
}

async function prepare(opening: Opening): Promise<void> {
  const { options, train, devices, processes, state, session, resumed, extended } = opening;
  const { model, report } = options;
  const nodes = loadAddon().precisionNodes(model.native);
  if (train.precision) {
    if (devices.train.type !== 'cpu') {
      throw new ConfigError({
        what: `precision by module is for training on a CPU, but this one is on ${devices.train.device}`,
        where: 'train.precision',
        fix: 'set device.train to cpu, or use train.amp',
      });
    }
    const bf16 = configuredPrecision(nodes, train.precision);
    session.precision = { bf16 };
    report(event(bf16, nodes, 'configured', `Precision: ${countNodes(bf16, nodes)} (configured)`));
    return;
  }
  if (train.amp !== 'auto' || devices.train.type !== 'cpu') return;

  let decision: Decision | null = null;
  const kept = state.register({
    key: 'precision',
    decided: true,
    // A decision without a measurement does not depend on timing: it is made again on resume.
    save: () => (decision && decision.batch > 0 ? decision : undefined),
    restore: (saved) => (decision = decisionSchema.parse(saved)),
  });
  // A checkpoint without a decision is of a run in float32, which goes on like that, unless it becomes longer: what
  // was too short to be measured may then gain. Deterministic runs may not depend on timing.
  if (!kept && (!resumed || extended) && !train.deterministic) {
    decision = await processes.lead(() => measure(opening));
  }
  const decided = decision as Decision | null;
  if (!decided) return;
  session.precision = { bf16: decided.bf16 };
  const how = kept ? 'kept' : 'measured';
  const message = describePrecision(decided, nodes, how);
  if (decided.reason === 'too_small') {
    // Of a dry run nobody wants to know.
    if (message && options.epochLimit === undefined) report({ type: 'info', message });
    return;
  }
  if (message) report(event(decided.bf16, nodes, how, message));
  warnOfOtherHost(decided, opening);
}

function warnOfOtherHost({ bf16, threads }: Decision, { options, train }: Opening): void {
  if (bf16.length === 0) return;
  const { report } = options;
  const { avx512_bf16, amx_bf16 } = loadAddon().systemInfo().cpu_features;
  if (!avx512_bf16 && !amx_bf16) {
    report({
      type: 'warning',
      message:
        'this run began on a CPU with bf16 arithmetic, which this one lacks: it computes the same, but slower',
    });
  }
  const now = threadsOf(train);
  if (now === threads) return;
  report({
    type: 'warning',
    message: `the precision of this run was measured with ${threads} threads; it stays, though there are ${now} now`,
  });
}

export const precisionFeature: RunFeature = { prepare };
