/** A split without files: sample i is a one-colour image of value i, 4 × 6 pixels unless told otherwise. */
import type { DecodedImage } from '#fornax/data/decode.js';
import type { PixelSettings, SplitSource } from '#fornax/data/source.js';

export interface SyntheticOptions {
  samples: number;
  /** Stands for the state of the data. */
  identity?: string;
  location?: string;
  size?: [height: number, width: number];
  /** Called before a sample is made; may throw or wait. */
  onRead?: (i: number) => void | Promise<void>;
}

export function syntheticSplit(options: SyntheticOptions): SplitSource {
  const { samples, identity = 'state-1', location = '/synthetic/train', size = [4, 6] } = options;
  const image = (i: number, { channels }: PixelSettings): DecodedImage => ({
    data: new Uint8Array(size[0] * size[1] * channels).fill(i % 256),
    height: size[0],
    width: size[1],
    channels,
  });
  return {
    name: 'train',
    location,
    classes: ['even', 'odd'],
    labels: Int32Array.from({ length: samples }, (_, i) => i % 2),
    id: (i) => `${i}.png`,
    identity,
    contentId: `content-${identity}`,
    sampleSizes: () => Promise.resolve([{ height: size[0], width: size[1] }]),
    read: async (i, settings) => {
      await options.onRead?.(i);
      return image(i, settings);
    },
  };
}
