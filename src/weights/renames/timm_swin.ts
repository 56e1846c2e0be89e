/** Swin transformers of timm, and of their authors (microsoft/Swin-Transformer), to torchvision's. */
import { byRules, type RenameMap } from './rename_map.js';

export const timmSwinMap: RenameMap = {
  name: "timm's Swin transformer",
  derived: /\.relative_position_index$/,
  redundant: /\.(attn_mask|relative_position_index)$/,
  renamer: (names) => {
    // The authors put the merging of patches at the end of a stage, timm (since 0.8) at the beginning of the next.
    const atEnd = names.some((name) => name.startsWith('layers.0.downsample.'));
    return byRules([
      [/^patch_embed\.proj\./, 'features.0.0.'],
      [/^patch_embed\.norm\./, 'features.0.2.'],
      [/^layers\.(\d)\.downsample\./, (s) => `features.${2 * (Number(s) + (atEnd ? 1 : 0))}.`],
      [
        /^layers\.(\d)\.blocks\.(\d+)\.mlp\.fc1\./,
        (s, block) => `features.${2 * Number(s) + 1}.${block}.mlp.0.`,
      ],
      [
        /^layers\.(\d)\.blocks\.(\d+)\.mlp\.fc2\./,
        (s, block) => `features.${2 * Number(s) + 1}.${block}.mlp.3.`,
      ],
      [/^layers\.(\d)\.blocks\.(\d+)\./, (s, block) => `features.${2 * Number(s) + 1}.${block}.`],
      [/^norm\./, 'norm.'],
      [/^head\.(?:fc\.)?(weight|bias)$/, 'head.$1'],
    ]);
  },
};
