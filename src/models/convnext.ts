/**
 * A ConvNet for the 2020s, Liu et al. 2022 (arXiv:2201.03545), section 3 and table 9. Names and order of the state dict
 * are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  Conv2d,
  Flatten,
  GELU,
  init,
  LayerNorm,
  Linear,
  Module,
  Parameter,
  Permute,
  Sequential,
  StochasticDepth,
  type Tensor,
} from '../nn/index.js';
import { imagenet, type ModelOptions, type OptionSpec } from './architecture.js';
import { stochasticDepthOption } from './transformer_mlp.js';

const eps = 1e-6;

/** Layer norm over the channels of [N, C, H, W]. */
class LayerNorm2d extends LayerNorm {
  override forward(x: Tensor): Tensor {
    return super.forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2);
  }
}

/** Figure 4: depthwise 7×7, then two linear layers for each pixel. */
class Block extends Module {
  readonly layer_scale: Parameter;
  readonly block: Sequential;
  readonly stochastic_depth: StochasticDepth;

  constructor(channels: number, layerScale: number, dropProbability: number) {
    super();
    this.layer_scale = init.constant(new Parameter([channels, 1, 1]), layerScale);
    this.block = new Sequential(
      new Conv2d(channels, channels, 7, { padding: 3, groups: channels }),
      new Permute([0, 2, 3, 1]),
      new LayerNorm(channels, { eps }),
      new Linear(channels, 4 * channels),
      new GELU(),
      new Linear(4 * channels, channels),
      new Permute([0, 3, 1, 2]),
    );
    this.stochastic_depth = new StochasticDepth(dropProbability, 'row');
  }

  forward(x: Tensor): Tensor {
    return this.stochastic_depth.forward(this.block.forward(x).mul(this.layer_scale)).add(x);
  }
}

export interface ConvNeXtOptions extends ModelOptions {
  /** What each residual branch is multiplied by at first (Touvron et al. 2021). Default 1e-6. */
  layerScale?: number;
  /** Probability with which the last residual branch is dropped. Default: that of the published training. */
  stochasticDepth?: number;
}

interface Table {
  channels: readonly [number, number, number, number];
  blocks: readonly [number, number, number, number];
  stochasticDepth: number;
}

export class ConvNeXt extends Module {
  readonly features: Sequential;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly classifier: Sequential;

  constructor({ channels, blocks, ...published }: Table, options: ConvNeXtOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, layerScale = 1e-6 } = options;
    const { stochasticDepth = published.stochasticDepth } = options;
    const total = blocks.reduce((sum, count) => sum + count, 0);
    let done = 0;
    const features: Module[] = [
      new Sequential(
        new Conv2d(inChannels, channels[0], 4, { stride: 4 }),
        new LayerNorm2d(channels[0], { eps }),
      ),
    ];
    for (const [i, count] of blocks.entries()) {
      const width = channels[i]!;
      const drop = (): number => (stochasticDepth * done++) / (total - 1);
      const stage = Array.from({ length: count }, () => new Block(width, layerScale, drop()));
      features.push(new Sequential(...stage));
      const next = channels[i + 1];
      if (next === undefined) continue;
      features.push(
        new Sequential(new LayerNorm2d(width, { eps }), new Conv2d(width, next, 2, { stride: 2 })),
      );
    }
    this.features = new Sequential(...features);
    this.avgpool = new AdaptiveAvgPool2d(1);
    this.classifier = new Sequential(
      new LayerNorm2d(channels[3], { eps }),
      new Flatten(1),
      new Linear(channels[3], numClasses),
    );
    for (const module of this.modules()) {
      if (!(module instanceof Conv2d || module instanceof Linear)) continue;
      init.truncNormal(module.weight, { std: 0.02 });
      init.zeros(module.bias!);
    }
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    return this.classifier.forward(this.avgpool.forward(this.features.forward(image)));
  }
}

const tables = {
  convnext_tiny: { channels: [96, 192, 384, 768], blocks: [3, 3, 9, 3], stochasticDepth: 0.1 },
  convnext_small: { channels: [96, 192, 384, 768], blocks: [3, 3, 27, 3], stochasticDepth: 0.4 },
  convnext_base: { channels: [128, 256, 512, 1024], blocks: [3, 3, 27, 3], stochasticDepth: 0.5 },
  convnext_large: { channels: [192, 384, 768, 1536], blocks: [3, 3, 27, 3], stochasticDepth: 0.5 },
} as const satisfies Record<string, Table>;

export const convnext_tiny = (options?: ConvNeXtOptions): ConvNeXt =>
  new ConvNeXt(tables.convnext_tiny, options);
export const convnext_small = (options?: ConvNeXtOptions): ConvNeXt =>
  new ConvNeXt(tables.convnext_small, options);
export const convnext_base = (options?: ConvNeXtOptions): ConvNeXt =>
  new ConvNeXt(tables.convnext_base, options);
export const convnext_large = (options?: ConvNeXtOptions): ConvNeXt =>
  new ConvNeXt(tables.convnext_large, options);

const layerScale: OptionSpec = {
  type: 'number',
  default: 1e-6,
  min: 0,
  description: 'What each residual branch is multiplied by at first.',
};

export const convnexts = Object.entries({
  convnext_tiny,
  convnext_small,
  convnext_base,
  convnext_large,
}).flatMap(([name, create]) => {
  const { stochasticDepth } = tables[name as keyof typeof tables];
  return imagenet(
    {
      paper: 'Liu et al. 2022, arXiv:2201.03545',
      options: { layerScale, ...stochasticDepthOption(stochasticDepth) },
    },
    { [name]: create },
  );
});
