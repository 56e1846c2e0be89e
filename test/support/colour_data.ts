/** A small folder of coloured images as data for the Trainer, for the tests of one file. */
import path from 'node:path';
import { after, before } from 'node:test';

import { prepareData } from '#fornax/train/prepare_data.js';
import type { TrainData } from '#fornax/train/data.js';

import { temporaryFolder, writeColourFolder } from './image_folder.js';

export interface ColourData {
  /** `images` and `cache` are in it. There from `before` to `after`. */
  root: Awaited<ReturnType<typeof temporaryFolder>>;
  /** Of 24 × 24 pixels, in three classes. */
  data: TrainData;
}

/** Called at the top level of a test file: makes the data before its tests and removes them after them. */
export function colourData(use: (made: ColourData) => void): void {
  let root: ColourData['root'];
  before(async () => {
    root = await temporaryFolder();
    const images = path.join(root.path, 'images');
    await writeColourFolder(images);
    const cache = path.join(root.path, 'cache');
    use({ root, data: await prepareData({ path: images, cache }, { resolution: [24, 24] }) });
  });
  after(() => root[Symbol.asyncDispose]());
}
