/**
 * Swin Transformer, Liu et al. 2021 (arXiv:2103.14030), figures 3 and 4 and table 7. Names and order of the state dict
 * are torchvision's. Any size: what is not a multiple of the window is padded, as there.
 */
import {
  AdaptiveAvgPool2d,
  cat,
  Conv2d,
  Flatten,
  init,
  LayerNorm,
  Linear,
  Module,
  Permute,
  Sequential,
  StochasticDepth,
  type Tensor,
} from '../nn/index.js';
import { imagenet, type ModelOptions } from './architecture.js';
import { missing } from './padding.js';
import { padEnd, ShiftedWindowAttention } from './swin_attention.js';
import { stochasticDepthOption, TransformerMlp, transformerOptions } from './transformer_mlp.js';

interface BlockOptions {
  /** After every linear layer of a block. Default 0. */
  dropout: number;
  /** Of attention weights. Default 0. */
  attentionDropout: number;
  /** Probability with which the last residual branch is dropped. Default: that of the published training. */
  stochasticDepth: number;
}

/** Figure 3b. */
class Block extends Module {
  readonly norm1: LayerNorm;
  readonly attn: ShiftedWindowAttention;
  readonly stochastic_depth: StochasticDepth;
  readonly norm2: LayerNorm;
  readonly mlp: TransformerMlp;

  constructor(channels: number, heads: number, shifted: boolean, options: BlockOptions) {
    super();
    this.norm1 = new LayerNorm(channels);
    this.attn = new ShiftedWindowAttention(channels, heads, shifted, options);
    this.stochastic_depth = new StochasticDepth(options.stochasticDepth, 'row');
    this.norm2 = new LayerNorm(channels);
    this.mlp = new TransformerMlp(channels, 4 * channels, options.dropout);
  }

  forward(input: Tensor): Tensor {
    const x = input.add(this.stochastic_depth.forward(this.attn.forward(this.norm1.forward(input))));
    return x.add(this.stochastic_depth.forward(this.mlp.forward(this.norm2.forward(x))));
  }
}

/** Joins 2×2 pixels: [N, H, W, C] → [N, ⌈H / 2⌉, ⌈W / 2⌉, 2C]. */
class PatchMerging extends Module {
  readonly reduction: Linear;
  readonly norm: LayerNorm;

  constructor(channels: number) {
    super();
    this.reduction = new Linear(4 * channels, 2 * channels, { bias: false });
    this.norm = new LayerNorm(4 * channels);
  }

  forward(input: Tensor): Tensor {
    const x = padEnd(input, missing(input.size(1), 2), missing(input.size(2), 2));
    const every = (row: number, column: number): Tensor => x.slice(1, row, null, 2).slice(2, column, null, 2);
    const joined = cat([every(0, 0), every(1, 0), every(0, 1), every(1, 1)], -1);
    return this.reduction.forward(this.norm.forward(joined));
  }
}

export interface SwinOptions extends ModelOptions, Partial<BlockOptions> {}

interface Table {
  channels: number;
  blocks: readonly [number, number, number, number];
  stochasticDepth: number;
}

export class SwinTransformer extends Module {
  readonly features: Sequential;
  readonly norm: LayerNorm;
  readonly permute: Permute;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly flatten: Flatten;
  readonly head: Linear;

  constructor(table: Table, options: SwinOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, dropout = 0, attentionDropout = 0 } = options;
    const { stochasticDepth: deepest = table.stochasticDepth } = options;
    const total = table.blocks.reduce((sum, count) => sum + count, 0);
    let done = 0;
    let { channels } = table;
    const patches = new Conv2d(inChannels, channels, 4, { stride: 4 });
    const features: Module[] = [new Sequential(patches, new Permute([0, 2, 3, 1]), new LayerNorm(channels))];
    for (const [stage, count] of table.blocks.entries()) {
      if (stage > 0) {
        features.push(new PatchMerging(channels));
        channels *= 2;
      }
      const blocks = Array.from({ length: count }, (_, i) => {
        const stochasticDepth = (deepest * done++) / (total - 1);
        return new Block(channels, channels / 32, i % 2 === 1, {
          dropout,
          attentionDropout,
          stochasticDepth,
        });
      });
      features.push(new Sequential(...blocks));
    }
    this.features = new Sequential(...features);
    this.norm = new LayerNorm(channels);
    this.permute = new Permute([0, 3, 1, 2]);
    this.avgpool = new AdaptiveAvgPool2d(1);
    this.flatten = new Flatten(1);
    this.head = new Linear(channels, numClasses);
    for (const module of this.modules()) {
      if (!(module instanceof Linear)) continue;
      init.truncNormal(module.weight, { std: 0.02 });
      if (module.bias !== null) init.zeros(module.bias);
    }
  }

  /** [N, 3, H, W] → logits [N, classes]. */
  forward(image: Tensor): Tensor {
    const x = this.permute.forward(this.norm.forward(this.features.forward(image)));
    return this.head.forward(this.flatten.forward(this.avgpool.forward(x)));
  }
}

const tables = {
  swin_t: { channels: 96, blocks: [2, 2, 6, 2], stochasticDepth: 0.2 },
  swin_s: { channels: 96, blocks: [2, 2, 18, 2], stochasticDepth: 0.3 },
  swin_b: { channels: 128, blocks: [2, 2, 18, 2], stochasticDepth: 0.5 },
} as const satisfies Record<string, Table>;

export const swin_t = (options?: SwinOptions): SwinTransformer => new SwinTransformer(tables.swin_t, options);
export const swin_s = (options?: SwinOptions): SwinTransformer => new SwinTransformer(tables.swin_s, options);
export const swin_b = (options?: SwinOptions): SwinTransformer => new SwinTransformer(tables.swin_b, options);

export const swins = Object.entries({ swin_t, swin_s, swin_b }).flatMap(([name, create]) => {
  const { stochasticDepth } = tables[name as keyof typeof tables];
  return imagenet(
    {
      paper: 'Liu et al. 2021, arXiv:2103.14030',
      options: { ...transformerOptions, ...stochasticDepthOption(stochasticDepth) },
    },
    { [name]: create },
  );
});
