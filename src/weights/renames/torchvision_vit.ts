/**
 * `mlp.linear_1.weight` → `mlp.0.weight`: vision transformers that torchvision published before its MLP was a
 * sequence (torchvision/models/vision_transformer.py, MLPBlock._load_from_state_dict).
 */
import { byRules, type RenameMap } from './rename_map.js';

export const torchvisionVitMap: RenameMap = {
  name: "torchvision's older names of the vision transformer",
  renamer: () =>
    byRules([
      [/^(.*\.mlp)\.linear_([12])\./, (path, layer) => `${path}.${3 * (Number(layer) - 1)}.`],
      [/^/, ''],
    ]),
};
