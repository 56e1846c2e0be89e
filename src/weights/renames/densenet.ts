/** `denselayer1.norm.1.weight` → `denselayer1.norm1.weight` (torchvision/models/densenet.py, `_load_state_dict`). */
import { byRules, type RenameMap } from './rename_map.js';

export const densenetMap: RenameMap = {
  name: "torchvision's older names of DenseNet",
  renamer: () =>
    byRules([
      [/^(.*denselayer\d+\.(?:norm|conv))\.([12])\./, '$1$2.'],
      [/^/, ''],
    ]),
};
