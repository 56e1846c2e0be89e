/** Decoded images as a batch of a model's input, by the very loader and geometry of evaluation. */
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { decodeImage, type DecodedImage } from '../data/decode.js';
import { readShard, ShardWriter } from '../data/pack_format.js';
import type { FixedPreprocessing, Preprocessing } from '../model/info.js';
import type { PackShard } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { Tensor } from '../tensor.js';
import { evaluationAugment } from '../train/train_data.js';

/** As `decodeImage`, in the channels and at the size that the preprocessing starts from. */
export function decodeFor(preprocessing: Preprocessing, file: string): Promise<DecodedImage> {
  const { channels, pack_size: shorterSide } = preprocessing;
  return decodeImage(file, channels, shorterSide === null ? {} : { shorterSide });
}

/**
 * @param images at least one.
 * @returns uint8 [N, H, W, C], resized and cropped as the preprocessing says.
 */
export async function imageBatch(
  images: readonly DecodedImage[],
  preprocessing: FixedPreprocessing,
): Promise<Tensor> {
  const folder = await fs.mkdtemp(path.join(tmpdir(), 'fornax-images-'));
  try {
    const loader = new (loadAddon().Loader)({
      shards: [await writeShard(path.join(folder, 'batch.safetensors'), images)],
      channels: preprocessing.channels,
      batch_size: images.length,
      shuffle: false,
      seed: 0,
      augment: evaluationAugment(preprocessing),
    });
    try {
      loader.startEpoch(0);
      const { image, ...rest } = (await loader.next())!;
      for (const tensor of Object.values(rest)) tensor.dispose();
      return new Tensor(image!);
    } finally {
      loader.dispose();
    }
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
}

async function writeShard(file: string, images: readonly DecodedImage[]): Promise<PackShard> {
  const writer = await ShardWriter.create(file, {});
  try {
    for (const image of images) await writer.add(image, 0);
    await writer.finish();
  } catch (error) {
    await writer.abort();
    throw error;
  }
  return readShard(file);
}
