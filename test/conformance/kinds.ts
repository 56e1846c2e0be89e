/** Every kind of golden file that can be run. A new one is a module here and a line below. */
import type { Kind } from './kind.js';

export const kinds: Record<string, () => Promise<Kind>> = {
  classification: async () => (await import('./classification.js')).classification,
  segmentation: async () => (await import('./segmentation.js')).segmentation,
  losses: async () => (await import('./losses.js')).losses,
  training: async () => (await import('./training.js')).training,
};
