/**
 * Designing Network Design Spaces, Radosavovic et al. 2020 (arXiv:2003.13678), section 3.3: RegNetX, and RegNetY with
 * squeeze-and-excite. Parameters are those of the published models; names and order of the state dict are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  Conv2d,
  init,
  Linear,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { imagenet, type ModelOptions } from './architecture.js';
import { Conv2dNormActivation, makeDivisible, SqueezeExcitation } from './blocks.js';

/** Blocks, initial width w₀, slope w_a, step of the quantisation w_m, channels of a group. */
type Design = readonly [number, number, number, number, number];

/** Y: with squeeze-and-excite to a quarter of the block's input channels. */
const designs = {
  regnet_x_400mf: [22, 24, 24.48, 2.54, 16],
  regnet_x_800mf: [16, 56, 35.73, 2.28, 16],
  regnet_x_1_6gf: [18, 80, 34.01, 2.25, 24],
  regnet_x_3_2gf: [25, 88, 26.31, 2.25, 48],
  regnet_x_8gf: [23, 80, 49.56, 2.88, 120],
  regnet_x_16gf: [22, 216, 55.59, 2.1, 128],
  regnet_x_32gf: [23, 320, 69.86, 2.0, 168],
  regnet_y_400mf: [16, 48, 27.89, 2.09, 8],
  regnet_y_800mf: [14, 56, 38.84, 2.4, 16],
  regnet_y_1_6gf: [27, 48, 20.71, 2.65, 24],
  regnet_y_3_2gf: [21, 80, 42.63, 2.66, 24],
  regnet_y_8gf: [17, 192, 76.82, 2.19, 56],
  regnet_y_16gf: [18, 200, 106.23, 2.48, 112],
  regnet_y_32gf: [20, 232, 115.89, 2.53, 232],
  regnet_y_128gf: [27, 456, 160.83, 2.52, 264],
} satisfies Record<string, Design>;

interface Stage {
  width: number;
  blocks: number;
  groupWidth: number;
}

/** As Python and torch round: halves to even. It decides widths: 80 · 2.25 / 8 = 22.5 in regnet_x_1_6gf. */
function roundHalfToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Widths grow linearly (equation 2), are quantised (3, 4) to multiples of 8 and equal within a stage. */
function stagesOf([depth, w0, wa, wm, groupWidth]: Design): Stage[] {
  const stages: Stage[] = [];
  let previous = 0;
  for (let j = 0; j < depth; j++) {
    const step = roundHalfToEven(Math.log((w0 + wa * j) / w0) / Math.log(wm));
    const width = roundHalfToEven((w0 * wm ** step) / 8) * 8;
    if (width === previous) {
      stages.at(-1)!.blocks++;
      continue;
    }
    // The groups must divide the width.
    const group = Math.min(groupWidth, width);
    stages.push({ width: makeDivisible(width, group), blocks: 1, groupWidth: group });
    previous = width;
  }
  return stages;
}

interface BlockOptions {
  inChannels: number;
  width: number;
  stride: number;
  groupWidth: number;
  squeeze: boolean;
}

/** 1×1, 3×3 in groups, squeeze-and-excite (Y), 1×1. No narrower inside than outside. */
function bottleneck({ inChannels, width, stride, groupWidth, squeeze }: BlockOptions): Sequential {
  const squeezed = roundHalfToEven(inChannels / 4);
  return new Sequential({
    a: new Conv2dNormActivation(inChannels, width, { kernelSize: 1 }),
    b: new Conv2dNormActivation(width, width, { stride, groups: width / groupWidth }),
    ...(squeeze ? { se: new SqueezeExcitation(width, squeezed) } : {}),
    c: new Conv2dNormActivation(width, width, { kernelSize: 1, activation: null }),
  });
}

class ResBottleneckBlock extends Module {
  readonly proj: Conv2dNormActivation | null;
  readonly f: Sequential;
  readonly activation: ReLU;

  constructor(options: BlockOptions) {
    super();
    const { inChannels, width, stride } = options;
    this.proj =
      stride !== 1 || inChannels !== width
        ? new Conv2dNormActivation(inChannels, width, { kernelSize: 1, stride, activation: null })
        : null;
    this.f = bottleneck(options);
    this.activation = new ReLU();
  }

  forward(x: Tensor): Tensor {
    return this.activation.forward((this.proj?.forward(x) ?? x).add(this.f.forward(x)));
  }
}

export class RegNet extends Module {
  readonly stem: Conv2dNormActivation;
  readonly trunk_output: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly fc: Linear;

  constructor(design: Design, squeeze: boolean, { numClasses = 1000, inChannels = 3 }: ModelOptions = {}) {
    super();
    let channels = 32;
    this.stem = new Conv2dNormActivation(inChannels, channels, { stride: 2 });
    const trunk = stagesOf(design).map(({ width, blocks, groupWidth }, i): [string, Module] => {
      const stage: Record<string, Module> = {};
      for (let j = 0; j < blocks; j++) {
        const stride = j === 0 ? 2 : 1;
        const block = new ResBottleneckBlock({ inChannels: channels, width, stride, groupWidth, squeeze });
        stage[`block${i + 1}-${j}`] = block;
        channels = width;
      }
      return [`block${i + 1}`, new Sequential(stage)];
    });
    this.trunk_output = new Sequential(Object.fromEntries(trunk));
    this.avgpool = new AdaptiveAvgPool2d([1, 1]);
    this.fc = new Linear(channels, numClasses);
    // The biases in squeeze-and-excite keep torch's default.
    for (const module of this.modules()) {
      if (module instanceof Conv2d) init.kaimingNormal(module.weight, { mode: 'fan_out' });
    }
    init.normal(this.fc.weight, 0, 0.01);
    init.zeros(this.fc.bias!);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    const x = this.trunk_output.forward(this.stem.forward(image));
    return this.fc.forward(this.avgpool.forward(x).flatten(1));
  }
}

const constructorOf =
  (name: keyof typeof designs) =>
  (options?: ModelOptions): RegNet =>
    new RegNet(designs[name], name.startsWith('regnet_y'), options);

export const regnet_x_400mf = constructorOf('regnet_x_400mf');
export const regnet_x_800mf = constructorOf('regnet_x_800mf');
export const regnet_x_1_6gf = constructorOf('regnet_x_1_6gf');
export const regnet_x_3_2gf = constructorOf('regnet_x_3_2gf');
export const regnet_x_8gf = constructorOf('regnet_x_8gf');
export const regnet_x_16gf = constructorOf('regnet_x_16gf');
export const regnet_x_32gf = constructorOf('regnet_x_32gf');
export const regnet_y_400mf = constructorOf('regnet_y_400mf');
export const regnet_y_800mf = constructorOf('regnet_y_800mf');
export const regnet_y_1_6gf = constructorOf('regnet_y_1_6gf');
export const regnet_y_3_2gf = constructorOf('regnet_y_3_2gf');
export const regnet_y_8gf = constructorOf('regnet_y_8gf');
export const regnet_y_16gf = constructorOf('regnet_y_16gf');
export const regnet_y_32gf = constructorOf('regnet_y_32gf');
export const regnet_y_128gf = constructorOf('regnet_y_128gf');

export const regnets = imagenet(
  { paper: 'Radosavovic et al. 2020, arXiv:2003.13678' },
  {
    regnet_x_400mf,
    regnet_x_800mf,
    regnet_x_1_6gf,
    regnet_x_3_2gf,
    regnet_x_8gf,
    regnet_x_16gf,
    regnet_x_32gf,
    regnet_y_400mf,
    regnet_y_800mf,
    regnet_y_1_6gf,
    regnet_y_3_2gf,
    regnet_y_8gf,
    regnet_y_16gf,
    regnet_y_32gf,
    regnet_y_128gf,
  },
);
