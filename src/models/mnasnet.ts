/**
 * MnasNet: Platform-Aware Neural Architecture Search for Mobile, Tan et al. 2018 (arXiv:1807.11626), the variant B1
 * (without squeeze-and-excite). Names and order of the state dict are torchvision's; of its two versions this is the
 * second, whose stem is scaled as well.
 */
import {
  BatchNorm2d,
  Conv2d,
  Dropout,
  init,
  Linear,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, type ModelOptions } from './architecture.js';
import { initConvolutions, makeDivisible } from './blocks.js';

/** Kernel, stride of the first block, expansion, output channels, blocks. */
const table = [
  [3, 2, 3, 24, 3],
  [5, 2, 3, 40, 3],
  [5, 2, 6, 80, 3],
  [3, 1, 6, 96, 2],
  [5, 2, 6, 192, 4],
  [3, 1, 6, 320, 1],
] as const;

// The paper's 0.9997 is TensorFlow's, the weight of the old statistics.
const batchNorm = (channels: number): BatchNorm2d => new BatchNorm2d(channels, { momentum: 1 - 0.9997 });

const pointwise = (input: number, output: number): Module[] => [
  new Conv2d(input, output, 1, { bias: false }),
  batchNorm(output),
];

const depthwise = (channels: number, kernel: number, stride: number): Module[] => [
  new Conv2d(channels, channels, kernel, {
    stride,
    padding: Math.floor(kernel / 2),
    groups: channels,
    bias: false,
  }),
  batchNorm(channels),
  new ReLU(),
];

class InvertedResidual extends Module {
  readonly layers: Sequential;
  private readonly shortcut: boolean;

  constructor(inChannels: number, outChannels: number, kernel: number, stride: number, expansion: number) {
    super();
    const hidden = inChannels * expansion;
    this.layers = new Sequential(
      ...pointwise(inChannels, hidden),
      new ReLU(),
      ...depthwise(hidden, kernel, stride),
      ...pointwise(hidden, outChannels),
    );
    this.shortcut = stride === 1 && inChannels === outChannels;
  }

  forward(x: Tensor): Tensor {
    const out = this.layers.forward(x);
    return this.shortcut ? out.add(x) : out;
  }
}

export interface MnasNetOptions extends ModelOptions {
  /** Before the classifier. Default 0.2. */
  dropout?: number;
}

export class MnasNet extends Module {
  readonly layers: Sequential;
  readonly classifier: Sequential;

  /** `alpha` scales all numbers of channels but the last. */
  constructor(alpha: number, { numClasses = 1000, inChannels = 3, dropout = 0.2 }: MnasNetOptions = {}) {
    super();
    const stem = makeDivisible(32 * alpha, 8);
    let channels = makeDivisible(16 * alpha, 8);
    const layers: Module[] = [
      new Conv2d(inChannels, stem, 3, { stride: 2, padding: 1, bias: false }),
      batchNorm(stem),
      new ReLU(),
      ...depthwise(stem, 3, 1),
      ...pointwise(stem, channels),
    ];
    for (const [kernel, firstStride, expansion, output, blocks] of table) {
      const outChannels = makeDivisible(output * alpha, 8);
      const stack = Array.from({ length: blocks }, (_, i) => {
        const [input, stride] = i === 0 ? [channels, firstStride] : [outChannels, 1];
        return new InvertedResidual(input, outChannels, kernel, stride, expansion);
      });
      layers.push(new Sequential(...stack));
      channels = outChannels;
    }
    this.layers = new Sequential(...layers, ...pointwise(channels, 1280), new ReLU());
    const linear = new Linear(1280, numClasses);
    this.classifier = new Sequential(new Dropout(dropout), linear);
    initConvolutions(this);
    init.kaimingUniform(linear.weight, { mode: 'fan_out', nonlinearity: 'sigmoid' });
    init.zeros(linear.bias!);
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    return this.classifier.forward(this.layers.forward(image).mean([2, 3]));
  }
}

export const mnasnet0_5 = (options?: MnasNetOptions): MnasNet => new MnasNet(0.5, options);
export const mnasnet0_75 = (options?: MnasNetOptions): MnasNet => new MnasNet(0.75, options);
export const mnasnet1_0 = (options?: MnasNetOptions): MnasNet => new MnasNet(1.0, options);
export const mnasnet1_3 = (options?: MnasNetOptions): MnasNet => new MnasNet(1.3, options);

export const mnasnets = imagenet(
  { paper: 'Tan et al. 2018, arXiv:1807.11626', options: dropoutOption(0.2) },
  { mnasnet0_5, mnasnet0_75, mnasnet1_0, mnasnet1_3 },
);
