/** VGG of timm, whose first linear layers are convolutions, to torchvision's. */
import { byRules, type RenameMap } from './rename_map.js';

export const timmVggMap: RenameMap = {
  name: "timm's VGG",
  reshapes: true,
  renamer: () =>
    byRules([
      [/^features\./, 'features.'],
      [/^pre_logits\.fc1\./, 'classifier.0.'],
      [/^pre_logits\.fc2\./, 'classifier.3.'],
      [/^head\.fc\./, 'classifier.6.'],
    ]),
};
