import type { RenameMap } from './rename_map.js';

/** `denselayer1.norm.1.weight` → `denselayer1.norm1.weight` (torchvision/models/densenet.py, `_load_state_dict`). */
export const densenetMap: RenameMap = {
  name: "torchvision's older names of DenseNet (norm.1 → norm1)",
  renamer: () => (name) =>
    name.replace(
      /^(.*denselayer\d+\.(?:norm|relu|conv))\.([12])\.(weight|bias|running_mean|running_var)$/,
      '$1$2.$3',
    ),
};
