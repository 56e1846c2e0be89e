/** The figures of an evaluation as events, checkpoints and model files have them, and one of them by its name. */
import type { EvaluationResult, Measures } from '../native/contract.js';
import type { EvaluationMetrics } from './events.js';

/** From what the native core counted, or from anything that holds more than the figures. */
export function figuresOf(result: EvaluationResult | Measures | EvaluationMetrics): EvaluationMetrics {
  const { loss, samples, metrics = {} } = result;
  const { top1 = null, top5 = null } = result as Partial<EvaluationMetrics>;
  return {
    loss,
    top1,
    top5,
    samples,
    ...(Object.keys(metrics).length > 0 && { metrics: { ...metrics } }),
  };
}

/** The figure that a setting such as `checkpoint.monitor` names; null if there is none. */
export function figure(figures: EvaluationMetrics | null, name: string): number | null {
  if (figures === null) return null;
  const found = { ...figures.metrics, top1: figures.top1, top5: figures.top5, loss: figures.loss }[name];
  return found ?? null;
}

/** For `info.metrics` of a model: a flat table. */
export function modelMetrics(figures: EvaluationMetrics | null): Record<string, number | null> {
  if (figures === null) return {};
  const { metrics, top1, top5, ...rest } = figures;
  const all = {
    ...rest,
    ...(top1 !== null && { top1 }),
    ...(top5 !== null && { top5 }),
    ...metrics,
  };
  // A model file holds JSON, which has no NaN.
  return Object.fromEntries(
    Object.entries(all).map(([name, value]) => [name, Number.isFinite(value) ? value : null]),
  );
}
