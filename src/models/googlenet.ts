/**
 * Going Deeper with Convolutions, Szegedy et al. 2014 (arXiv:1409.4842), table 1, with batch norm. Names and order of
 * the state dict are torchvision's, as is the 3×3 convolution where the paper has 5×5.
 */
import {
  AdaptiveAvgPool2d,
  auxiliary,
  cat,
  Conv2d,
  Dropout,
  functional as F,
  init,
  Linear,
  MaxPool2d,
  Module,
  Sequential,
  type Tensor,
} from '../nn/index.js';
import { dropoutOption, imagenet, type ModelOptions } from './architecture.js';
import {
  BasicConv2d,
  fromImagenetNormalization,
  inceptionOptions,
  transformsInput,
} from './inception_blocks.js';

/** Figure 2b: 1×1, 3×3, "5×5" and pooling side by side. */
class Inception extends Module {
  readonly branch1: BasicConv2d;
  readonly branch2: Sequential;
  readonly branch3: Sequential;
  readonly branch4: Sequential;

  /** The columns of table 1: #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj. */
  constructor(inChannels: number, columns: readonly [number, number, number, number, number, number]) {
    super();
    const [c1, reduce3, c3, reduce5, c5, pool] = columns;
    this.branch1 = new BasicConv2d(inChannels, c1, 1);
    this.branch2 = new Sequential(
      new BasicConv2d(inChannels, reduce3, 1),
      new BasicConv2d(reduce3, c3, 3, { padding: 1 }),
    );
    this.branch3 = new Sequential(
      new BasicConv2d(inChannels, reduce5, 1),
      new BasicConv2d(reduce5, c5, 3, { padding: 1 }),
    );
    this.branch4 = new Sequential(
      new MaxPool2d(3, { stride: 1, padding: 1, ceilMode: true }),
      new BasicConv2d(inChannels, pool, 1),
    );
  }

  forward(x: Tensor): Tensor {
    const branches = [this.branch1, this.branch2, this.branch3, this.branch4];
    return cat(
      branches.map((branch) => branch.forward(x)),
      1,
    );
  }
}

/** The classifiers on the way, for training: section 5. */
class InceptionAux extends Module {
  readonly conv: BasicConv2d;
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly dropout: Dropout;

  constructor(inChannels: number, numClasses: number, dropout: number) {
    super();
    this.conv = new BasicConv2d(inChannels, 128, 1);
    this.fc1 = new Linear(2048, 1024);
    this.fc2 = new Linear(1024, numClasses);
    this.dropout = new Dropout(dropout);
  }

  forward(x: Tensor): Tensor {
    const pooled = this.conv.forward(F.adaptiveAvgPool2d(x, 4)).flatten(1);
    return this.fc2.forward(this.dropout.forward(F.relu(this.fc1.forward(pooled))));
  }
}

export interface GoogLeNetOptions extends ModelOptions {
  /** Before the classifier. Default 0.2. */
  dropout?: number;
  /** In the auxiliary classifiers. Default 0.7. */
  dropoutAux?: number;
  /** Add the auxiliary classifiers. Default false, as torchvision delivers the published weights. */
  auxLogits?: boolean;
  /** Take images in ImageNet normalisation, as the published weights need it. Default false. */
  transformInput?: boolean;
}

export class GoogLeNet extends Module {
  readonly conv1: BasicConv2d;
  readonly maxpool1: MaxPool2d;
  readonly conv2: BasicConv2d;
  readonly conv3: BasicConv2d;
  readonly maxpool2: MaxPool2d;
  readonly inception3a: Inception;
  readonly inception3b: Inception;
  readonly maxpool3: MaxPool2d;
  readonly inception4a: Inception;
  readonly inception4b: Inception;
  readonly inception4c: Inception;
  readonly inception4d: Inception;
  readonly inception4e: Inception;
  readonly maxpool4: MaxPool2d;
  readonly inception5a: Inception;
  readonly inception5b: Inception;
  readonly aux1: InceptionAux | null;
  readonly aux2: InceptionAux | null;
  readonly avgpool: AdaptiveAvgPool2d;
  readonly dropout: Dropout;
  readonly fc: Linear;
  private readonly transformInput: boolean;

  constructor(options: GoogLeNetOptions = {}) {
    super();
    const { numClasses = 1000, inChannels = 3, dropout = 0.2, dropoutAux = 0.7 } = options;
    this.transformInput = transformsInput(options);
    this.conv1 = new BasicConv2d(inChannels, 64, 7, { stride: 2, padding: 3 });
    this.maxpool1 = new MaxPool2d(3, { stride: 2, ceilMode: true });
    this.conv2 = new BasicConv2d(64, 64, 1);
    this.conv3 = new BasicConv2d(64, 192, 3, { padding: 1 });
    this.maxpool2 = new MaxPool2d(3, { stride: 2, ceilMode: true });
    this.inception3a = new Inception(192, [64, 96, 128, 16, 32, 32]);
    this.inception3b = new Inception(256, [128, 128, 192, 32, 96, 64]);
    this.maxpool3 = new MaxPool2d(3, { stride: 2, ceilMode: true });
    this.inception4a = new Inception(480, [192, 96, 208, 16, 48, 64]);
    this.inception4b = new Inception(512, [160, 112, 224, 24, 64, 64]);
    this.inception4c = new Inception(512, [128, 128, 256, 24, 64, 64]);
    this.inception4d = new Inception(512, [112, 144, 288, 32, 64, 64]);
    this.inception4e = new Inception(528, [256, 160, 320, 32, 128, 128]);
    this.maxpool4 = new MaxPool2d(2, { stride: 2, ceilMode: true });
    this.inception5a = new Inception(832, [256, 160, 320, 32, 128, 128]);
    this.inception5b = new Inception(832, [384, 192, 384, 48, 128, 128]);
    this.aux1 = options.auxLogits ? new InceptionAux(512, numClasses, dropoutAux) : null;
    this.aux2 = options.auxLogits ? new InceptionAux(528, numClasses, dropoutAux) : null;
    this.avgpool = new AdaptiveAvgPool2d(1);
    this.dropout = new Dropout(dropout);
    this.fc = new Linear(1024, numClasses);
    for (const module of this.modules()) {
      if (module instanceof Conv2d || module instanceof Linear)
        init.truncNormal(module.weight, { std: 0.01 });
    }
  }

  /** [N, 3, H, W], from 15 pixels on → logits [N, classes]; with `auxLogits` those of three classifiers. */
  forward(image: Tensor): Tensor | { output: Tensor; aux1: Tensor; aux2: Tensor } {
    let x = this.transformInput ? fromImagenetNormalization(image) : image;
    x = this.maxpool1.forward(this.conv1.forward(x));
    x = this.maxpool2.forward(this.conv3.forward(this.conv2.forward(x)));
    x = this.maxpool3.forward(this.inception3b.forward(this.inception3a.forward(x)));
    const at4a = this.inception4a.forward(x);
    x = this.inception4c.forward(this.inception4b.forward(at4a));
    const at4d = this.inception4d.forward(x);
    x = this.maxpool4.forward(this.inception4e.forward(at4d));
    x = this.inception5b.forward(this.inception5a.forward(x));
    const output = this.fc.forward(this.dropout.forward(this.avgpool.forward(x).flatten(1)));
    if (this.aux1 === null || this.aux2 === null) return output;
    return {
      output,
      aux1: auxiliary(this.aux1.forward(at4a)),
      aux2: auxiliary(this.aux2.forward(at4d)),
    };
  }
}

export const googlenet = (options?: GoogLeNetOptions): GoogLeNet => new GoogLeNet(options);

export const googlenets = imagenet(
  {
    paper: 'Szegedy et al. 2014, arXiv:1409.4842',
    options: {
      ...dropoutOption(0.2),
      dropoutAux: {
        ...dropoutOption(0.7).dropout,
        description: 'Probability of dropout in the auxiliary classifiers.',
      },
      ...inceptionOptions,
    },
  },
  { googlenet },
);
