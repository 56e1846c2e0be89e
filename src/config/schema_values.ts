/** Kinds of values that several sections of the schema share. */
import { z } from 'zod';

export const auto = z.literal('auto');
export const positiveInt = z.int().min(1);
export const share = z.number().min(0).max(1);
export const path = z.string().min(1);
/** A figure of an evaluation. Which there are besides these three, a script says: src/config/check_metrics.ts. */
export const metricName = z.union([z.enum(['top1', 'top5', 'loss']), z.string().min(1).max(100)]);
