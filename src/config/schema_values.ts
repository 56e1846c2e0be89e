/** Kinds of values that several sections of the schema share. */
import { z } from 'zod';

export const auto = z.literal('auto');
export const positiveInt = z.int().min(1);
export const share = z.number().min(0).max(1);
export const path = z.string().min(1);
/** Figures that every classifier has; metrics of a script must have other names. */
export const BUILT_IN_METRICS = ['top1', 'top5', 'loss'] as const;
/** A figure of an evaluation. Which there are besides those, a script says: src/config/check_metrics.ts. */
export const metricName = z.union([z.enum(BUILT_IN_METRICS), z.string().min(1).max(100)]);
