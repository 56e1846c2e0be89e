/** Kinds of values that several sections of the schema share. */
import { z } from 'zod';

export const auto = z.literal('auto');
export const positiveInt = z.int().min(1);
export const share = z.number().min(0).max(1);
export const path = z.string().min(1);
