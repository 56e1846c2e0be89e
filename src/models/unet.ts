/**
 * U-Net, Ronneberger et al. 2015 (arXiv:1505.04597), figure 1, with padded convolutions and batch norm, so that the
 * result has the size of the image.
 */
import {
  BatchNorm2d,
  cat,
  Conv2d,
  ConvTranspose2d,
  Dropout2d,
  functional as F,
  init,
  MaxPool2d,
  Module,
  ModuleList,
  ReLU,
  Sequential,
  Upsample,
  type Tensor,
} from '../nn/index.js';
import { segmentation, type ModelOptions, type OptionSpec } from './architecture.js';

export interface UNetOptions extends ModelOptions {
  /** Channels of each level, from the image's resolution down. Default [16, 32, 64, 128]. */
  widths?: readonly number[];
  /** Channels below the last level. Default: twice those of the last level. */
  bottleneck?: number | null;
  /** Go up by bilinear resizing and a 1×1 convolution instead of by a transposed convolution. Default false. */
  bilinear?: boolean;
  /** Of whole channels, below the last level. Default 0. */
  dropout?: number;
}

/** Twice convolution 3×3, batch norm, ReLU. */
class DoubleConv extends Sequential {
  constructor(inChannels: number, outChannels: number) {
    const convolution = (channels: number): Module[] => [
      new Conv2d(channels, outChannels, 3, { padding: 1, bias: false }),
      new BatchNorm2d(outChannels),
      new ReLU(),
    ];
    super(...convolution(inChannels), ...convolution(outChannels));
  }
}

/** To twice the size, with `outChannels` channels. */
function upsampling(inChannels: number, outChannels: number, bilinear: boolean): Module {
  if (!bilinear) return new ConvTranspose2d(inChannels, outChannels, 2, { stride: 2 });
  return new Sequential(
    new Upsample({ scaleFactor: 2, mode: 'bilinear', alignCorners: false }),
    new Conv2d(inChannels, outChannels, 1),
  );
}

export class UNet extends Module {
  /** Levels from the image's resolution down. */
  readonly encoder: ModuleList;
  readonly pool: MaxPool2d;
  readonly bottleneck: DoubleConv;
  readonly dropout: Dropout2d;
  /** Levels from the lowest up, as `decoder`. */
  readonly up: ModuleList;
  readonly decoder: ModuleList;
  readonly head: Conv2d;
  private readonly stride: number;

  constructor(options: UNetOptions = {}) {
    super();
    const { numClasses = 21, inChannels = 3, widths = [16, 32, 64, 128] } = options;
    const { bilinear = false, dropout = 0 } = options;
    const bottleneck = options.bottleneck ?? 2 * widths.at(-1)!;
    const above = [inChannels, ...widths];
    const upwards = [...widths].reverse();
    const below = [bottleneck, ...upwards];
    this.encoder = new ModuleList(widths.map((width, i) => new DoubleConv(above[i]!, width)));
    this.pool = new MaxPool2d(2);
    this.bottleneck = new DoubleConv(widths.at(-1)!, bottleneck);
    this.dropout = new Dropout2d(dropout);
    this.up = new ModuleList(upwards.map((width, i) => upsampling(below[i]!, width, bilinear)));
    this.decoder = new ModuleList(upwards.map((width) => new DoubleConv(2 * width, width)));
    this.head = new Conv2d(widths[0]!, numClasses, 1);
    this.stride = 2 ** widths.length;
    for (const module of this.modules()) {
      if (module instanceof Conv2d && module !== this.head) init.kaimingNormal(module.weight);
    }
  }

  /**
   * [N, 3, H, W] → logits `out` [N, classes, H, W]. A height or width that the levels cannot halve evenly is filled up
   * by repeating the last row or column, and the result is cut again. Padding of the image costs next to nothing, so that
   * sizes that need none get it as well, of width 0: the graph then holds for every size, whatever it was traced with.
   */
  forward(image: Tensor): { out: Tensor } {
    const [height, width] = [image.size(2), image.size(3)];
    const [rows, columns] = [height.neg().mod(this.stride), width.neg().mod(this.stride)];
    let x = F.pad(image, [0, columns, 0, rows], 'replicate');
    const skipped: Tensor[] = [];
    for (const level of this.encoder) {
      x = level.forward(x) as Tensor;
      skipped.push(x);
      x = this.pool.forward(x);
    }
    x = this.dropout.forward(this.bottleneck.forward(x));
    for (const [i, up] of [...this.up].entries()) {
      x = cat([skipped.pop()!, up.forward(x) as Tensor], 1);
      x = this.decoder.at(i)!.forward(x) as Tensor;
    }
    const out = this.head.forward(x);
    return { out: out.slice(2, 0, height).slice(3, 0, width) };
  }
}

export const unet = (options?: UNetOptions): UNet => new UNet(options);
/** Half the channels of `unet`: about 0.5 M parameters. */
export const unet_tiny = (options?: UNetOptions): UNet => new UNet({ widths: [8, 16, 32, 64], ...options });

const members = { unet: [unet, [16, 32, 64, 128]], unet_tiny: [unet_tiny, [8, 16, 32, 64]] } as const;

const options = {
  bottleneck: {
    type: 'integer',
    default: null,
    min: 1,
    description: 'Channels below the last level; null for twice those of the last level.',
  },
  bilinear: {
    type: 'boolean',
    default: false,
    description: 'Go up by bilinear resizing instead of by transposed convolutions.',
  },
  dropout: {
    type: 'number',
    default: 0,
    min: 0,
    max: 1,
    description: 'Probability with which channels below the last level are dropped.',
  },
} as const satisfies Record<string, OptionSpec>;

export const unets = Object.entries(members).flatMap(([name, [create, widths]]) =>
  segmentation(
    {
      paper: 'Ronneberger et al. 2015, arXiv:1505.04597',
      defaultResolution: 256,
      options: {
        widths: {
          type: 'integers',
          default: widths,
          description: 'Channels of each level, from the image down.',
        },
        ...options,
      },
    },
    { [name]: create },
  ),
);
