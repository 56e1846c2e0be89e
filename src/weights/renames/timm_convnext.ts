/** ConvNeXt of timm, and of its authors (facebookresearch/ConvNeXt), to torchvision's. */
import { byRules, type RenameMap } from './rename_map.js';

const BLOCK: Record<string, string> = {
  ...{
    conv_dw: 'block.0',
    norm: 'block.2',
    'mlp.fc1': 'block.3',
    'mlp.fc2': 'block.5',
    gamma: 'layer_scale',
  },
  ...{ dwconv: 'block.0', pwconv1: 'block.3', pwconv2: 'block.5' },
};
const stage = (index: string): number => 2 * Number(index);

export const timmConvnextMap: RenameMap = {
  name: "timm's ConvNeXt",
  reshapes: true, // gamma [C] is layer_scale [C, 1, 1]
  renamer: () =>
    byRules([
      [/^(?:stem|downsample_layers\.0)\.([01])\./, 'features.0.$1.'],
      [/^stages\.(\d)\.downsample\.([01])\./, (s, i) => `features.${stage(s)}.${i}.`],
      [/^downsample_layers\.(\d)\.([01])\./, (s, i) => `features.${stage(s)}.${i}.`],
      [
        /^stages\.(\d)\.(?:blocks\.)?(\d+)\.(conv_dw|dwconv|norm|mlp\.fc[12]|pwconv[12]|gamma)/,
        (s, block, layer) => `features.${stage(s) + 1}.${block}.${BLOCK[layer]!}`,
      ],
      [/^(?:head\.)?norm\./, 'classifier.0.'],
      [/^head\.(?:fc\.)?(weight|bias)$/, 'classifier.2.$1'],
    ]),
};
