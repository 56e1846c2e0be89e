/**
 * An Image is Worth 16×16 Words, Dosovitskiy et al. 2020 (arXiv:2010.11929), figure 1 and table 1. Names and order of
 * the state dict are torchvision's.
 */
import { ArgumentError } from '../errors.js';
import {
  cat,
  Conv2d,
  Dropout,
  functional as F,
  init,
  LayerNorm,
  Linear,
  Module,
  MultiheadAttention,
  Parameter,
  Sequential,
  type SymInt,
  type Tensor,
} from '../nn/index.js';
import { imagenet, type ModelOptions, type OptionSpec } from './architecture.js';
import { TransformerMlp, transformerOptions } from './transformer_mlp.js';

const eps = 1e-6;

interface Size {
  patch: number;
  layers: number;
  heads: number;
  channels: number;
  mlp: number;
}

export interface VisionTransformerOptions extends ModelOptions {
  /**
   * Height and width for which the position embedding is made: it has (imageSize / patch)² + 1 rows. Images of any
   * other size get it interpolated. Default 224.
   */
  imageSize?: number;
  /** After every linear layer of a block, and on the sum with the positions. Default 0. */
  dropout?: number;
  /** Of attention weights. Default 0. */
  attentionDropout?: number;
}

/** Figure 1, right. */
class EncoderBlock extends Module {
  readonly ln_1: LayerNorm;
  readonly self_attention: MultiheadAttention;
  readonly dropout: Dropout;
  readonly ln_2: LayerNorm;
  readonly mlp: TransformerMlp;

  constructor({ channels, heads, mlp }: Size, dropout: number, attentionDropout: number) {
    super();
    this.ln_1 = new LayerNorm(channels, { eps });
    this.self_attention = new MultiheadAttention(channels, heads, { dropout: attentionDropout });
    this.dropout = new Dropout(dropout);
    this.ln_2 = new LayerNorm(channels, { eps });
    this.mlp = new TransformerMlp(channels, mlp, dropout);
  }

  forward(input: Tensor): Tensor {
    const x = this.dropout.forward(this.self_attention.forward(this.ln_1.forward(input))).add(input);
    return x.add(this.mlp.forward(this.ln_2.forward(x)));
  }
}

class Encoder extends Module {
  readonly pos_embedding: Parameter;
  readonly dropout: Dropout;
  readonly layers: Sequential;
  readonly ln: LayerNorm;

  /** `side`: rows and columns of patches for which there is a position. */
  constructor(
    private readonly side: number,
    size: Size,
    dropout: number,
    attentionDropout: number,
  ) {
    super();
    const blocks = Array.from({ length: size.layers }, (_, i): [string, Module] => [
      `encoder_layer_${i}`,
      new EncoderBlock(size, dropout, attentionDropout),
    ]);
    this.pos_embedding = init.normal(new Parameter([1, side * side + 1, size.channels]), 0, 0.02);
    this.dropout = new Dropout(dropout);
    this.layers = new Sequential(Object.fromEntries(blocks));
    this.ln = new LayerNorm(size.channels, { eps });
  }

  /** [N, 1 + rows · columns, C] → the same shape. */
  forward(tokens: Tensor, rows: SymInt, columns: SymInt): Tensor {
    const x = tokens.add(this.positions(rows, columns));
    return this.ln.forward(this.layers.forward(this.dropout.forward(x)));
  }

  /**
   * The position embedding for a grid of patches, interpolated as torchvision's interpolate_embeddings does. That is
   * the identity for the grid the embedding was made for, so only the shortcut needs a guard.
   */
  private positions(rows: SymInt, columns: SymInt): Tensor {
    const { side } = this;
    const fits = rows.example === side && columns.example === side;
    if (fits && rows.eq(side) && columns.eq(side)) return this.pos_embedding;
    const channels = this.pos_embedding.dims[2]!;
    const [token, grid] = this.pos_embedding.split([1, side * side], 1) as [Tensor, Tensor];
    const resized = F.interpolate(grid.permute(0, 2, 1).reshape(1, channels, side, side), {
      size: [rows, columns],
      mode: 'bicubic',
      alignCorners: true,
    });
    return cat([token, resized.flatten(2).permute(0, 2, 1)], 1);
  }
}

export class VisionTransformer extends Module {
  readonly class_token: Parameter;
  readonly conv_proj: Conv2d;
  readonly encoder: Encoder;
  readonly heads: Sequential;

  constructor(size: Size, options: VisionTransformerOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, imageSize = 224 } = options;
    const { dropout = 0, attentionDropout = 0 } = options;
    const { patch, channels } = size;
    if (imageSize % patch !== 0) {
      throw new ArgumentError({
        what: `imageSize must be a multiple of the patches' side ${patch}, not ${imageSize}`,
      });
    }
    this.class_token = new Parameter([1, 1, channels]);
    this.conv_proj = new Conv2d(inChannels, channels, patch, { stride: patch });
    this.encoder = new Encoder(imageSize / patch, size, dropout, attentionDropout);
    const head = new Linear(channels, numClasses);
    this.heads = new Sequential({ head });
    init.truncNormal(this.conv_proj.weight, { std: Math.sqrt(1 / (inChannels * patch * patch)) });
    for (const parameter of [this.conv_proj.bias!, head.weight, head.bias!]) init.zeros(parameter);
  }

  /** [N, 3, H, W] → logits [N, classes]. Height and width are rounded down to whole patches. */
  forward(image: Tensor): Tensor {
    const grid = this.conv_proj.forward(image);
    const patches = grid.flatten(2).permute(0, 2, 1);
    const token = this.class_token.expand(image.size(0), -1, -1);
    const x = this.encoder.forward(cat([token, patches], 1), grid.size(2), grid.size(3));
    return this.heads.forward(x.select(1, 0));
  }
}

const base = { layers: 12, heads: 12, channels: 768, mlp: 3072 };
const large = { layers: 24, heads: 16, channels: 1024, mlp: 4096 };

export const vit_b_16 = (options?: VisionTransformerOptions): VisionTransformer =>
  new VisionTransformer({ ...base, patch: 16 }, options);
export const vit_b_32 = (options?: VisionTransformerOptions): VisionTransformer =>
  new VisionTransformer({ ...base, patch: 32 }, options);
export const vit_l_16 = (options?: VisionTransformerOptions): VisionTransformer =>
  new VisionTransformer({ ...large, patch: 16 }, options);
export const vit_l_32 = (options?: VisionTransformerOptions): VisionTransformer =>
  new VisionTransformer({ ...large, patch: 32 }, options);

const imageSize: OptionSpec = {
  type: 'integer',
  default: 224,
  min: 16,
  description: 'Height and width for which the position embedding is made; a multiple of the patch.',
};

export const visionTransformers = imagenet(
  { paper: 'Dosovitskiy et al. 2020, arXiv:2010.11929', options: { imageSize, ...transformerOptions } },
  { vit_b_16, vit_b_32, vit_l_16, vit_l_32 },
);
