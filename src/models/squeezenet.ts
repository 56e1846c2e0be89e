/**
 * SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, Iandola et al. 2016 (arXiv:1602.07360), table 1, and
 * the authors' version 1.1, which pools earlier. Names and order of the state dict are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  cat,
  Conv2d,
  Dropout,
  init,
  MaxPool2d,
  Module,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, type ModelOptions } from './architecture.js';

/** Squeezes to few channels, then expands by 1×1 and 3×3 side by side: figure 1. */
export class Fire extends Module {
  readonly squeeze: Conv2d;
  readonly squeeze_activation: ReLU;
  readonly expand1x1: Conv2d;
  readonly expand1x1_activation: ReLU;
  readonly expand3x3: Conv2d;
  readonly expand3x3_activation: ReLU;

  /** `expanded`: channels of each of the two expansions. */
  constructor(inChannels: number, squeezed: number, expanded: number) {
    super();
    this.squeeze = new Conv2d(inChannels, squeezed, 1);
    this.squeeze_activation = new ReLU();
    this.expand1x1 = new Conv2d(squeezed, expanded, 1);
    this.expand1x1_activation = new ReLU();
    this.expand3x3 = new Conv2d(squeezed, expanded, 3, { padding: 1 });
    this.expand3x3_activation = new ReLU();
  }

  forward(input: Tensor): Tensor {
    const x = this.squeeze_activation.forward(this.squeeze.forward(input));
    return cat(
      [
        this.expand1x1_activation.forward(this.expand1x1.forward(x)),
        this.expand3x3_activation.forward(this.expand3x3.forward(x)),
      ],
      1,
    );
  }
}

/** Squeezed and expanded channels of the eight fire modules: table 1. */
const fires = [
  [16, 64],
  [16, 64],
  [32, 128],
  [32, 128],
  [48, 192],
  [48, 192],
  [64, 256],
  [64, 256],
] as const;

/** The first convolution, and after how many fire modules a max-pool follows. */
const versions = {
  '1_0': { channels: 96, kernel: 7, pools: [0, 3, 7] },
  '1_1': { channels: 64, kernel: 3, pools: [0, 2, 4] },
} as const;

export interface SqueezeNetOptions extends ModelOptions {
  /** Before the classifier. Default 0.5. */
  dropout?: number;
}

export class SqueezeNet extends Module {
  readonly features: Sequential;
  readonly classifier: Sequential;

  constructor(version: keyof typeof versions, options: SqueezeNetOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, dropout = 0.5 } = options;
    const { channels, kernel, pools } = versions[version];
    const pool = (done: number): Module[] =>
      (pools as readonly number[]).includes(done) ? [new MaxPool2d(3, { stride: 2, ceilMode: true })] : [];
    const layers: Module[] = [
      new Conv2d(inChannels, channels, kernel, { stride: 2 }),
      new ReLU(),
      ...pool(0),
    ];
    let previous: number = channels;
    for (const [i, [squeezed, expanded]] of fires.entries()) {
      layers.push(new Fire(previous, squeezed, expanded), ...pool(i + 1));
      previous = 2 * expanded;
    }
    this.features = new Sequential(...layers);
    const last = new Conv2d(previous, numClasses, 1);
    this.classifier = new Sequential(new Dropout(dropout), last, new ReLU(), new AdaptiveAvgPool2d(1));
    for (const module of this.modules()) {
      if (!(module instanceof Conv2d)) continue;
      init.kaimingUniform(module.weight);
      init.zeros(module.bias!);
    }
    init.normal(last.weight, 0, 0.01);
  }

  /** [N, 3, H, W], from 21 (1_0) or 17 (1_1) pixels on → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    return this.classifier.forward(this.features.forward(image)).flatten(1);
  }
}

export const squeezenet1_0 = (options?: SqueezeNetOptions): SqueezeNet => new SqueezeNet('1_0', options);
export const squeezenet1_1 = (options?: SqueezeNetOptions): SqueezeNet => new SqueezeNet('1_1', options);

export const squeezenets = imagenet(
  { paper: 'Iandola et al. 2016, arXiv:1602.07360', options: dropoutOption(0.5) },
  { squeezenet1_0, squeezenet1_1 },
);
