/**
 * Rethinking the Inception Architecture for Computer Vision, Szegedy et al. 2015 (arXiv:1512.00567), table 1. Names
 * and order of the state dict are torchvision's.
 */
import {
  AdaptiveAvgPool2d,
  auxiliary,
  Conv2d,
  Dropout,
  functional as F,
  init,
  Linear,
  MaxPool2d,
  Module,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, type ModelOptions } from './architecture.js';
import {
  BasicConv2d,
  fromImagenetNormalization,
  inceptionOptions,
  transformsInput,
} from './inception_blocks.js';
import { InceptionA, InceptionB, InceptionC, InceptionD, InceptionE } from './inception_v3_blocks.js';

/** The classifier on the way, for training: section 4. */
class InceptionAux extends Module {
  readonly conv0: BasicConv2d;
  readonly conv1: BasicConv2d;
  readonly fc: Linear;

  constructor(inChannels: number, numClasses: number) {
    super();
    this.conv0 = new BasicConv2d(inChannels, 128, 1);
    this.conv1 = new BasicConv2d(128, 768, 5);
    this.fc = new Linear(768, numClasses);
  }

  forward(input: Tensor): Tensor {
    const x = F.avgPool2d(input, 5, { stride: 3 });
    const pooled = F.adaptiveAvgPool2d(this.conv1.forward(this.conv0.forward(x)), 1);
    return this.fc.forward(pooled.flatten(1));
  }
}

export interface Inception3Options extends ModelOptions {
  /** Before the classifier. Default 0.5. */
  dropout?: number;
  /** Add the auxiliary classifier. Default false; torchvision's published weights contain it. */
  auxLogits?: boolean;
  /** Take images in ImageNet normalisation, as the published weights need it. Default false. */
  transformInput?: boolean;
}

export class Inception3 extends Module {
  readonly Conv2d_1a_3x3: BasicConv2d;
  readonly Conv2d_2a_3x3: BasicConv2d;
  readonly Conv2d_2b_3x3: BasicConv2d;
  readonly maxpool1: MaxPool2d;
  readonly Conv2d_3b_1x1: BasicConv2d;
  readonly Conv2d_4a_3x3: BasicConv2d;
  readonly maxpool2: MaxPool2d;
  readonly Mixed_5b: InceptionA;
  readonly Mixed_5c: InceptionA;
  readonly Mixed_5d: InceptionA;
  readonly Mixed_6a: InceptionB;
  readonly Mixed_6b: InceptionC;
  readonly Mixed_6c: InceptionC;
  readonly Mixed_6d: InceptionC;
  readonly Mixed_6e: InceptionC;
  readonly AuxLogits: InceptionAux | null;
  readonly Mixed_7a: InceptionD;
  readonly Mixed_7b: InceptionE;
  readonly Mixed_7c: InceptionE;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly dropout: Dropout;
  readonly fc: Linear;
  private readonly transformInput: boolean;

  constructor(options: Inception3Options = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, dropout = 0.5 } = options;
    this.transformInput = transformsInput(options);
    this.Conv2d_1a_3x3 = new BasicConv2d(inChannels, 32, 3, { stride: 2 });
    this.Conv2d_2a_3x3 = new BasicConv2d(32, 32, 3);
    this.Conv2d_2b_3x3 = new BasicConv2d(32, 64, 3, { padding: 1 });
    this.maxpool1 = new MaxPool2d(3, { stride: 2 });
    this.Conv2d_3b_1x1 = new BasicConv2d(64, 80, 1);
    this.Conv2d_4a_3x3 = new BasicConv2d(80, 192, 3);
    this.maxpool2 = new MaxPool2d(3, { stride: 2 });
    this.Mixed_5b = new InceptionA(192, 32);
    this.Mixed_5c = new InceptionA(256, 64);
    this.Mixed_5d = new InceptionA(288, 64);
    this.Mixed_6a = new InceptionB(288);
    this.Mixed_6b = new InceptionC(768, 128);
    this.Mixed_6c = new InceptionC(768, 160);
    this.Mixed_6d = new InceptionC(768, 160);
    this.Mixed_6e = new InceptionC(768, 192);
    this.AuxLogits = options.auxLogits ? new InceptionAux(768, numClasses) : null;
    this.Mixed_7a = new InceptionD(768);
    this.Mixed_7b = new InceptionE(1280);
    this.Mixed_7c = new InceptionE(2048);
    this.avgpool = new AdaptiveAvgPool2d(1);
    this.dropout = new Dropout(dropout);
    this.fc = new Linear(2048, numClasses);
    for (const module of this.modules()) {
      if (module instanceof Conv2d || module instanceof Linear) init.truncNormal(module.weight, { std: 0.1 });
    }
    if (this.AuxLogits !== null) {
      // torchvision marks conv1 (a BasicConv2d, whose own mark is not read) with 0.01, so that 0.1 stays there.
      init.truncNormal(this.AuxLogits.fc.weight, { std: 0.001 });
    }
  }

  /** [N, 3, H, W], from 75 pixels on (299 with `auxLogits`) → logits [N, classes]; with it those of both classifiers. */
  forward(image: Tensor): Tensor | { output: Tensor; aux: Tensor } {
    let x = this.transformInput ? fromImagenetNormalization(image) : image;
    x = this.Conv2d_2b_3x3.forward(this.Conv2d_2a_3x3.forward(this.Conv2d_1a_3x3.forward(x)));
    x = this.Conv2d_4a_3x3.forward(this.Conv2d_3b_1x1.forward(this.maxpool1.forward(x)));
    x = this.Mixed_5b.forward(this.maxpool2.forward(x));
    x = this.Mixed_6a.forward(this.Mixed_5d.forward(this.Mixed_5c.forward(x)));
    x = this.Mixed_6c.forward(this.Mixed_6b.forward(x));
    const at6e = this.Mixed_6e.forward(this.Mixed_6d.forward(x));
    x = this.Mixed_7c.forward(this.Mixed_7b.forward(this.Mixed_7a.forward(at6e)));
    const output = this.fc.forward(this.dropout.forward(this.avgpool.forward(x)).flatten(1));
    if (this.AuxLogits === null) return output;
    return { output, aux: auxiliary(this.AuxLogits.forward(at6e)) };
  }
}

export const inception_v3 = (options?: Inception3Options): Inception3 => new Inception3(options);

export const inceptions = imagenet(
  {
    paper: 'Szegedy et al. 2015, arXiv:1512.00567',
    defaultResolution: 299,
    options: { ...dropoutOption(0.5), ...inceptionOptions },
  },
  { inception_v3 },
);
