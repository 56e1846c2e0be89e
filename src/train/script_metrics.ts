/** Metrics of a script: traced, checked, and tried on a batch before the training begins. */
import { ConfigError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import type { AnyLoaderOptions } from '../native/contract.js';
import { evaluationSession, runEvaluation } from '../eval/run_evaluation.js';
import { BUILT_IN_METRICS } from '../config/schema_values.js';
import type { RunFeature } from './run_features.js';
import { checkReads, traceFunction, type Readable, type TracedFunction } from './traced.js';

/**
 * A metric gives one number for a batch (the mean over its samples) or a vector with one number for each sample. As
 * a graph (`traceLoss`) its inputs are named like the model's outputs and the batch's fields.
 */
export type Metric = Graph | TracedFunction;

/** @throws ConfigError for a name that is taken, or a metric that reads what is not there. */
export function traceMetrics(
  metrics: Readonly<Record<string, Metric>>,
  readable: Readable,
): Record<string, Graph> {
  const graphs = Object.entries(metrics).map(([name, metric]) => {
    const where = `metrics.${name}`;
    if ((BUILT_IN_METRICS as readonly string[]).includes(name) || name === 'samples' || name === 'auto') {
      throw new ConfigError({ what: `'${name}' is the name of a figure of its own`, where });
    }
    if (typeof metric === 'function') {
      return [name, traceFunction(metric, readable, { output: 'metric', where })] as const;
    }
    if (!Array.isArray(metric?.inputs) || !Array.isArray(metric?.outputs)) {
      throw new ConfigError({
        what: 'a metric is a function over the outputs and fields, or a traced graph',
        where,
        fix: '({ output, label }) => output.argmax(1).eq(label)',
      });
    }
    if (metric.outputs.length !== 1) {
      const names = metric.outputs.map((output) => output.name).join(', ');
      throw new ConfigError({ what: `a metric has one output, not ${names}`, where });
    }
    checkReads(metric, readable, where);
    return [name, metric] as const;
  });
  return Object.fromEntries(graphs);
}

/** As many samples as show whether a metric depends on their number. */
const TRIAL_SAMPLES = 3;

function firstOf(options: AnyLoaderOptions, samples: number): AnyLoaderOptions {
  const count = Math.min(TRIAL_SAMPLES, samples);
  const indices = options.indices?.slice(0, count) ?? Int32Array.from({ length: count }, (_, i) => i);
  return { ...options, indices, batch_size: count };
}

/** Evaluates a few samples: what is wrong with a metric is found before the first epoch, not after it. */
export const metricsFeature: RunFeature = {
  async prepare({ options: { model, data, metrics = {} }, devices, train }) {
    if (Object.keys(metrics).length === 0 || data.evalSamples === null) return;
    const session = evaluationSession(model.native, {
      device: devices.eval.device,
      threads: train.threads === 'auto' ? undefined : train.threads,
      normalize: data.preprocessing?.normalize ?? null,
    });
    try {
      const loader = firstOf(
        data.loaderOptions('eval', { batchSize: TRIAL_SAMPLES, seed: 0 }),
        data.evalSamples,
      );
      await runEvaluation(session, loader, { classes: 0, loss: null, metrics });
    } finally {
      session.dispose();
    }
  },
};
