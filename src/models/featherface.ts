/**
 * FeatherFace: Robust and Lightweight Face Detection via Optimal Feature Integration, Kim et al. 2025
 * (Electronics 14(3), 517): MobileNetV1-0.25, BiFPN, context modules of deformable convolutions, channel shuffle.
 * Three published forms, each with its own repository's names and order of the state dict:
 * - `featherface`: dohun-mat/FeatherFace, with CBAM; no weights are published;
 * - `featherface_baseline`: fokouarnaud/FeatherFace ("V1 baseline"), without attention;
 * - `featherface_eca_cbam`: fokouarnaud/FeatherFace, with ECA and spatial attention.
 */
import {
  BatchNorm2d,
  Conv2d,
  functional as F,
  init,
  Module,
  type ModuleList,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { faceAnchors } from '../detect/anchors.js';
import { family, type ModelOptions } from './architecture.js';
import { BiFPN } from './bifpn.js';
import { CBAM, EcaCbam, withResidual } from './face_attention.js';
import {
  ContextModule,
  facePreprocessing,
  headOutputs,
  makeBody,
  makeHeads,
  type FaceOutputs,
  type Levels,
} from './face_parts.js';
import type { MobileNetV1Body } from './mobilenetv1.js';

/**
 * A modulated deformable 3×3 convolution that computes its own offsets (unbounded) and masks (0…2). Offsets start
 * at zero and masks at one: as a plain convolution.
 */
class DeformableConv2d extends Module {
  readonly offset_conv: Conv2d;
  readonly modulator_conv: Conv2d;
  readonly regular_conv: Conv2d;

  constructor(inChannels: number, outChannels: number) {
    super();
    this.offset_conv = new Conv2d(inChannels, 18, 3, { padding: 1 });
    this.modulator_conv = new Conv2d(inChannels, 9, 3, { padding: 1 });
    for (const conv of [this.offset_conv, this.modulator_conv]) {
      init.zeros(conv.weight);
      init.zeros(conv.bias!);
    }
    this.regular_conv = new Conv2d(inChannels, outChannels, 3, { padding: 1, bias: false });
  }

  forward(x: Tensor): Tensor {
    const offset = this.offset_conv.forward(x);
    const mask = this.modulator_conv.forward(x).sigmoid().mul(2);
    const { weight } = this.regular_conv;
    return F.deformConv2d(x, offset, weight, null, { padding: 1, groups: 1, offsetGroups: 1, mask });
  }
}

/** [a₀, b₀, a₁, b₁, …] → [a₀, a₁, …, b₀, b₁, …] for two groups: the inverse of the usual order. */
class ChannelShuffle extends Module {
  constructor(readonly channels: number) {
    super();
  }

  forward(x: Tensor): Tensor {
    const grouped = x.reshape(-1, this.channels / 2, 2, x.size(2), x.size(3));
    return grouped.transpose(1, 2).reshape(-1, this.channels, x.size(2), x.size(3));
  }
}

/** Shuffle, then a bottleneck with a depthwise convolution. */
function shuffleUnit(channels: number): Sequential {
  const half = channels / 2;
  return new Sequential(
    new ChannelShuffle(channels),
    new Conv2d(channels, half, 1, { bias: false }),
    new BatchNorm2d(half),
    new Conv2d(half, half, 3, { padding: 1, groups: half, bias: false }),
    new BatchNorm2d(half),
    new Conv2d(half, channels, 1, { bias: false }),
    new BatchNorm2d(channels),
    new ReLU(),
  );
}

interface Variant {
  /** Width of everything above the body. */
  channels: number;
  /** Layers of BiFPN. */
  layers: number;
  /** Name of the attention of a level in the state dict, before and after BiFPN; and how to make it. */
  attention: {
    before: (level: number) => string;
    after: (level: number) => string;
    make: (channels: number) => Module;
    apply: (attention: Module, x: Tensor) => Tensor;
  } | null;
  shuffle: (channels: number) => Module;
}

/** Registers first what comes first in the state dict. */
class FeatherFace extends Module {
  readonly body: MobileNetV1Body;
  readonly bifpn: Sequential;
  readonly ssh1: ContextModule;
  readonly ssh2: ContextModule;
  readonly ssh3: ContextModule;
  readonly ssh1_cs: Module;
  readonly ssh2_cs: Module;
  readonly ssh3_cs: Module;
  readonly ClassHead: ModuleList;
  readonly BboxHead: ModuleList;
  readonly LandmarkHead: ModuleList;

  constructor(
    readonly variant: Variant,
    options: ModelOptions = {},
  ) {
    super();
    const { channels, layers, attention, shuffle } = variant;
    const deformable = (from: number, to: number): Module => new DeformableConv2d(from, to);
    this.body = makeBody(options);
    const bodyChannels = this.body.channels;
    if (attention) bodyChannels.forEach((n, i) => this.register(attention.before(i), attention.make(n)));
    this.bifpn = new Sequential(
      ...Array.from({ length: layers }, (_, i) => new BiFPN(channels, i === 0 ? bodyChannels : null)),
    );
    if (attention)
      bodyChannels.forEach((_, i) => this.register(attention.after(i), attention.make(channels)));
    this.ssh1 = new ContextModule(channels, deformable);
    this.ssh2 = new ContextModule(channels, deformable);
    this.ssh3 = new ContextModule(channels, deformable);
    this.ssh1_cs = shuffle(channels);
    this.ssh2_cs = shuffle(channels);
    this.ssh3_cs = shuffle(channels);
    this.ClassHead = makeHeads(channels, options.numClasses ?? 2);
    this.BboxHead = makeHeads(channels, 4);
    this.LandmarkHead = makeHeads(channels, 10);
  }

  /** [N, 3, H, W], blue, green, red → offsets, class scores and landmarks of each anchor. */
  forward(image: Tensor): FaceOutputs {
    const attention = this.variant.attention;
    const attend = (levels: Levels, name: (level: number) => string): Levels =>
      levels.map((x, i) => attention!.apply(this.getSubmodule(name(i)), x)) as Levels;
    let levels: Levels = this.body.forward(image);
    if (attention) levels = attend(levels, attention.before);
    for (const layer of this.bifpn) levels = (layer as BiFPN).forward(levels);
    if (attention) levels = attend(levels, attention.after);
    return headOutputs(this, [
      this.ssh1_cs.forward(this.ssh1.forward(levels[0])) as Tensor,
      this.ssh2_cs.forward(this.ssh2.forward(levels[1])) as Tensor,
      this.ssh3_cs.forward(this.ssh3.forward(levels[2])) as Tensor,
    ]);
  }
}

const justShuffle = (channels: number): Module => new ChannelShuffle(channels);

const original: Variant = {
  channels: 64,
  layers: 3,
  attention: {
    before: (level) => `bacbkbone_${level}_cbam`, // the spelling of the repository
    after: (level) => `bif_cbam_${level}`,
    make: (channels) => new CBAM(channels),
    apply: (attention, x) => withResidual(attention as CBAM, x),
  },
  shuffle: shuffleUnit,
};
const baseline: Variant = { channels: 56, layers: 2, attention: null, shuffle: justShuffle };
const ecaCbam: Variant = {
  channels: 52,
  layers: 3,
  attention: {
    before: (level) => `backbone_attention_${level}`,
    after: (level) => `bifpn_attention_${level}`,
    make: (channels) => new EcaCbam(channels),
    apply: (attention, x) => (attention as EcaCbam).forward(x),
  },
  shuffle: justShuffle,
};

export const featherface = (options?: ModelOptions): FeatherFace => new FeatherFace(original, options);
export const featherface_baseline = (options?: ModelOptions): FeatherFace =>
  new FeatherFace(baseline, options);
export const featherface_eca_cbam = (options?: ModelOptions): FeatherFace =>
  new FeatherFace(ecaCbam, options);

export const featherfaces = family(
  {
    task: 'detection',
    paper: 'Kim et al. 2025, Electronics 14(3), 517',
    defaultResolution: 640,
    defaultClasses: 2,
    options: {},
    preprocessing: facePreprocessing,
    detection: faceAnchors,
  },
  { featherface, featherface_baseline, featherface_eca_cbam },
);
