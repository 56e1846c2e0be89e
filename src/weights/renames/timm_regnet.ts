/** RegNets of timm to torchvision's. */
import { byRules, type RenameMap } from './rename_map.js';

const PART: Record<string, string> = { conv: '0', bn: '1' };
const BRANCH: Record<string, string> = { conv1: 'f.a', conv2: 'f.b', conv3: 'f.c', downsample: 'proj' };

/** `trunk_output.block2.block2-0`: timm counts blocks from one. */
const trunk = (stage: string, block: string): string =>
  `trunk_output.block${stage}.block${stage}-${Number(block) - 1}`;

export const timmRegnetMap: RenameMap = {
  name: "timm's RegNet",
  renamer: () =>
    byRules([
      [/^stem\.(conv|bn)\./, (part) => `stem.${PART[part]!}.`],
      [
        /^s(\d)\.b(\d+)\.(conv[123]|downsample)\.(conv|bn)\./,
        (stage, block, branch, part) => `${trunk(stage, block)}.${BRANCH[branch]!}.${PART[part]!}.`,
      ],
      [/^s(\d)\.b(\d+)\.se\.(fc[12])\./, (stage, block, fc) => `${trunk(stage, block)}.f.se.${fc}.`],
      [/^head\.fc\./, 'fc.'],
    ]),
};
