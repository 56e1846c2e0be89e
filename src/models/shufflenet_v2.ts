/**
 * ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, Ma et al. 2018 (arXiv:1807.11164), table 5.
 * Names and order of the state dict are torchvision's, initial values torch's defaults, as there.
 */
import {
  BatchNorm2d,
  cat,
  Conv2d,
  Linear,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { imagenet, type ModelOptions } from './architecture.js';

/** Table 5: channels after the stem, after stages 2 to 4 and after the last convolution. */
type Channels = readonly [number, number, number, number, number];

/** Blocks of stages 2 to 4. */
const blocks = [4, 8, 4] as const;

const pointwise = (input: number, output: number): Module[] => [
  new Conv2d(input, output, 1, { bias: false }),
  new BatchNorm2d(output),
  new ReLU(),
];

const depthwise = (channels: number, stride: number): Module[] => [
  new Conv2d(channels, channels, 3, { stride, padding: 1, groups: channels, bias: false }),
  new BatchNorm2d(channels),
];

/** The channels of the two halves in turn, so that both reach both branches of the next block. */
function channelShuffle(x: Tensor): Tensor {
  return x
    .unflatten(1, [2, x.size(1).floordiv(2)])
    .transpose(1, 2)
    .flatten(1, 2);
}

/** Figure 3 (c); with a stride, or where channels grow, (d), which splits nothing. */
export class InvertedResidual extends Module {
  readonly branch1: Sequential;
  readonly branch2: Sequential;
  private readonly splits: boolean;

  constructor(inChannels: number, outChannels: number, stride: number) {
    super();
    const half = Math.floor(outChannels / 2);
    this.splits = stride === 1;
    this.branch1 = this.splits
      ? new Sequential()
      : new Sequential(...depthwise(inChannels, stride), ...pointwise(inChannels, half));
    this.branch2 = new Sequential(
      ...pointwise(this.splits ? half : inChannels, half),
      ...depthwise(half, stride),
      ...pointwise(half, half),
    );
  }

  forward(x: Tensor): Tensor {
    if (!this.splits) return channelShuffle(cat([this.branch1.forward(x), this.branch2.forward(x)], 1));
    const half = x.size(1).floordiv(2);
    const kept = x.narrow(1, 0, half);
    return channelShuffle(cat([kept, this.branch2.forward(x.narrow(1, half, half))], 1));
  }
}

export class ShuffleNetV2 extends Module {
  readonly conv1: Sequential;
  readonly maxpool: MaxPool2d;
  readonly stage2: Sequential;
  readonly stage3: Sequential;
  readonly stage4: Sequential;
  readonly conv5: Sequential;
  readonly fc: Linear;

  constructor(channels: Channels, { numClasses = 1000, inChannels = 3 }: ModelOptions = {}) {
    super();
    const stage = (index: 0 | 1 | 2): Sequential => {
      const [input, output] = [channels[index], channels[index + 1]!];
      const first = new InvertedResidual(input, output, 2);
      const rest = Array.from({ length: blocks[index] - 1 }, () => new InvertedResidual(output, output, 1));
      return new Sequential(first, ...rest);
    };
    this.conv1 = new Sequential(
      new Conv2d(inChannels, channels[0], 3, { stride: 2, padding: 1, bias: false }),
      new BatchNorm2d(channels[0]),
      new ReLU(),
    );
    this.maxpool = new MaxPool2d(3, { stride: 2, padding: 1 });
    this.stage2 = stage(0);
    this.stage3 = stage(1);
    this.stage4 = stage(2);
    this.conv5 = new Sequential(...pointwise(channels[3], channels[4]));
    this.fc = new Linear(channels[4], numClasses);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    let x = this.maxpool.forward(this.conv1.forward(image));
    x = this.stage2.forward(x);
    x = this.stage3.forward(x);
    x = this.stage4.forward(x);
    return this.fc.forward(this.conv5.forward(x).mean([2, 3]));
  }
}

export const shufflenet_v2_x0_5 = (options?: ModelOptions): ShuffleNetV2 =>
  new ShuffleNetV2([24, 48, 96, 192, 1024], options);
export const shufflenet_v2_x1_0 = (options?: ModelOptions): ShuffleNetV2 =>
  new ShuffleNetV2([24, 116, 232, 464, 1024], options);
export const shufflenet_v2_x1_5 = (options?: ModelOptions): ShuffleNetV2 =>
  new ShuffleNetV2([24, 176, 352, 704, 1024], options);
export const shufflenet_v2_x2_0 = (options?: ModelOptions): ShuffleNetV2 =>
  new ShuffleNetV2([24, 244, 488, 976, 2048], options);

export const shufflenetV2s = imagenet(
  { paper: 'Ma et al. 2018, arXiv:1807.11164' },
  { shufflenet_v2_x0_5, shufflenet_v2_x1_0, shufflenet_v2_x1_5, shufflenet_v2_x2_0 },
);
