/**
 * timm's EfficientNets, MobileNets and MnasNets, which share one block structure, to torchvision's.
 * `blocks.2.0.conv_dw.weight`: a block's convolutions and squeeze-excitation are counted in the order they stand.
 */
import type { RenameMap } from './rename_map.js';

interface Layer {
  stage: number;
  block: number;
  /** Number of the block in the whole network. */
  flat: number;
  /** Among the block's convolutions and squeeze-excitations, and among the convolutions only. */
  unit: number;
  conv: number;
  convs: number;
  part: 'conv' | 'bn' | 'fc1' | 'fc2';
}

const BLOCK = /^(blocks\.(\d+)\.(\d+))\.(conv\w*|bn\d|se\.conv_reduce|se\.conv_expand)\.(\w+)$/;

/** Finds the place of every layer in the blocks; null for names outside of them. */
function layersOf(names: readonly string[]): (name: string) => (Layer & { parameter: string }) | null {
  const units = new Map<string, string[]>();
  for (const name of names) {
    const match = BLOCK.exec(name);
    if (!match || match[4]!.startsWith('bn')) continue;
    const unit = match[4]!.startsWith('se') ? 'se' : match[4]!;
    const known = units.get(match[1]!) ?? [];
    if (!known.includes(unit)) units.set(match[1]!, [...known, unit]);
  }
  const order = [...units.keys()];
  return (name) => {
    const match = BLOCK.exec(name);
    const known = match ? units.get(match[1]!) : undefined;
    if (!match || !known) return null;
    const layer = match[4]!;
    const convs = known.filter((unit) => unit !== 'se');
    // The k-th batch norm belongs to the k-th convolution.
    const unit = layer.startsWith('bn')
      ? convs[Number(layer.slice(2)) - 1]
      : layer.startsWith('se')
        ? 'se'
        : layer;
    if (unit === undefined) return null;
    return {
      stage: Number(match[2]),
      block: Number(match[3]),
      flat: order.indexOf(match[1]!),
      unit: known.indexOf(unit),
      conv: convs.indexOf(unit),
      convs: convs.length,
      part: layer.startsWith('bn')
        ? 'bn'
        : layer === 'se.conv_reduce'
          ? 'fc1'
          : layer === 'se.conv_expand'
            ? 'fc2'
            : 'conv',
      parameter: match[5]!,
    };
  };
}

const PART = { conv: '0', bn: '1', fc1: 'fc1', fc2: 'fc2' };

/** `place`: module of a layer in the blocks; `ends`: those before and after them, given the number of blocks and stages. */
function mobileMap(
  name: string,
  place: (layer: Layer) => string,
  ends: (blocks: number, stages: number) => Record<string, string>,
): RenameMap {
  return {
    name,
    reshapes: true, // the head of MobileNetV3 is a 1×1 convolution there and a linear layer here
    renamer: (names) => {
      const find = layersOf(names);
      const stages = new Set(names.map((given) => /^blocks\.(\d+)\./.exec(given)?.[1]).filter(Boolean)).size;
      const blocks = new Set(names.map((given) => /^blocks\.\d+\.\d+\./.exec(given)?.[0]).filter(Boolean))
        .size;
      const outside = ends(blocks, stages);
      return (given) => {
        const layer = find(given);
        if (layer) return `${place(layer)}.${layer.parameter}`;
        const dot = given.lastIndexOf('.');
        const module = given.slice(0, dot);
        return Object.hasOwn(outside, module) ? outside[module]! + given.slice(dot) : null;
      };
    },
  };
}

const stem = { conv_stem: 'features.0.0', bn1: 'features.0.1' };

const OTHER_EPSILON =
  "timm's models of this family use another epsilon in batch norm (1e-5, not 1e-3): outputs will not be the same";

export const timmEfficientnetMap: RenameMap = {
  ...mobileMap(
    "timm's EfficientNet (the tf_ variants have the same names, but pad in another way)",
    ({ stage, block, unit, part }) => `features.${stage + 1}.${block}.block.${unit}.${PART[part]}`,
    (_, stages) => ({
      ...stem,
      conv_head: `features.${stages + 1}.0`,
      bn2: `features.${stages + 1}.1`,
      classifier: 'classifier.1',
    }),
  ),
  // V2, which alone has fused blocks, and B5 to B7, of 39 blocks and more.
  caveat: (names) => {
    const blocks = new Set(names.map((name) => /^blocks\.\d+\.\d+\./.exec(name)?.[0]).filter(Boolean)).size;
    return blocks >= 39 || names.some((name) => name.includes('.conv_exp.')) ? OTHER_EPSILON : null;
  },
};

export const timmMobilenetV2Map = mobileMap(
  "timm's MobileNetV2",
  ({ flat, conv, convs, part }) => {
    const last = conv === convs - 1;
    const inner = last ? `${part === 'conv' ? conv : conv + 1}` : `${conv}.${PART[part]}`;
    return `features.${flat + 1}.conv.${inner}`;
  },
  (blocks) => ({
    ...stem,
    conv_head: `features.${blocks + 1}.0`,
    bn2: `features.${blocks + 1}.1`,
    classifier: 'classifier.1',
  }),
);

export const timmMobilenetV3Map: RenameMap = {
  ...mobileMap(
    "timm's MobileNetV3",
    ({ flat, unit, part, convs }) =>
      // The last "block" is a plain 1×1 convolution.
      convs === 1 ? `features.${flat + 1}.${PART[part]}` : `features.${flat + 1}.block.${unit}.${PART[part]}`,
    () => ({ ...stem, conv_head: 'classifier.0', classifier: 'classifier.3' }),
  ),
  caveat: () => OTHER_EPSILON,
};

export const timmMnasnetMap = mobileMap(
  "timm's MnasNet",
  ({ stage, block, conv, part }) => {
    const inner = 3 * conv + (part === 'conv' ? 0 : 1);
    return stage === 0 ? `layers.${3 + inner}` : `layers.${7 + stage}.${block}.layers.${inner}`;
  },
  (_, stages) => ({
    conv_stem: 'layers.0',
    bn1: 'layers.1',
    conv_head: `layers.${7 + stages}`,
    bn2: `layers.${8 + stages}`,
    classifier: 'classifier.1',
  }),
);
