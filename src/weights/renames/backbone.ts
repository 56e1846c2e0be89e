/**
 * A classifier's layers as the backbone of a segmenter. Loaded with `strict: false`: what the file lacks are the heads
 * of the segmenter, what is left over is that of the classifier.
 */
import { byRules, type RenameMap } from './rename_map.js';

export const backboneMap: RenameMap = {
  name: 'a classifier as backbone',
  renamer: () =>
    byRules([
      [/^features\.(\d+)\./, 'backbone.$1.'],
      [/^/, 'backbone.'],
    ]),
};
