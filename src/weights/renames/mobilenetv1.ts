/**
 * MobileNetV1 with each convolution, its batch norm and activation in a module of their own: `stage1.1.1.0.weight`
 * (second convolution of a block) → `stage1.1.3.weight`.
 */
import { byRules, type RenameMap } from './rename_map.js';

export const mobilenetv1Map: RenameMap = {
  name: "MobileNetV1's nested blocks",
  renamer: () =>
    byRules([
      [
        /^((?:.*\.)?stage\d+\.\d+)\.([01])\.([01])\./,
        (block, i, j) => `${block}.${3 * Number(i) + Number(j)}.`,
      ],
      [/^/, ''],
    ]),
};
