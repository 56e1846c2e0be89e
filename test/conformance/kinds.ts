/** Every kind of golden file that can be run. A new one is a module here and a line below. */
import type { Kind } from './kind.js';

export const kinds: Record<string, () => Promise<Kind>> = {
  classification: async () => (await import('./classification.js')).classification,
  faces: async () => (await import('./faces.js')).faces,
  metrics: async () => (await import('./metrics.js')).metrics,
  losses: async () => (await import('./losses.js')).losses,
  segmentation: async () => (await import('./segmentation.js')).segmentation,
  training: async () => (await import('./training.js')).training,
};
