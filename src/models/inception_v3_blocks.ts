/** The modules of Inception v3: Szegedy et al. 2015 (arXiv:1512.00567), figures 5 to 7 and 10. Names are torchvision's. */
import { cat, functional as F, Module, type Tensor } from '../nn/index.js';
import { BasicConv2d } from './inception_blocks.js';

/** 3×3 average with padded zeros counted. */
const averaged = (x: Tensor): Tensor => F.avgPool2d(x, 3, { stride: 1, padding: 1 });

/** Figure 5: two 3×3 convolutions for one 5×5. */
export class InceptionA extends Module {
  readonly branch1x1: BasicConv2d;
  readonly branch5x5_1: BasicConv2d;
  readonly branch5x5_2: BasicConv2d;
  readonly branch3x3dbl_1: BasicConv2d;
  readonly branch3x3dbl_2: BasicConv2d;
  readonly branch3x3dbl_3: BasicConv2d;
  readonly branch_pool: BasicConv2d;

  constructor(inChannels: number, poolFeatures: number) {
    super();
    this.branch1x1 = new BasicConv2d(inChannels, 64, 1);
    this.branch5x5_1 = new BasicConv2d(inChannels, 48, 1);
    this.branch5x5_2 = new BasicConv2d(48, 64, 5, { padding: 2 });
    this.branch3x3dbl_1 = new BasicConv2d(inChannels, 64, 1);
    this.branch3x3dbl_2 = new BasicConv2d(64, 96, 3, { padding: 1 });
    this.branch3x3dbl_3 = new BasicConv2d(96, 96, 3, { padding: 1 });
    this.branch_pool = new BasicConv2d(inChannels, poolFeatures, 1);
  }

  forward(x: Tensor): Tensor {
    const branch1x1 = this.branch1x1.forward(x);
    const branch5x5 = this.branch5x5_2.forward(this.branch5x5_1.forward(x));
    let branch3x3dbl = this.branch3x3dbl_2.forward(this.branch3x3dbl_1.forward(x));
    branch3x3dbl = this.branch3x3dbl_3.forward(branch3x3dbl);
    return cat([branch1x1, branch5x5, branch3x3dbl, this.branch_pool.forward(averaged(x))], 1);
  }
}

/** Figure 10: halves the resolution by convolutions and pooling side by side. */
export class InceptionB extends Module {
  readonly branch3x3: BasicConv2d;
  readonly branch3x3dbl_1: BasicConv2d;
  readonly branch3x3dbl_2: BasicConv2d;
  readonly branch3x3dbl_3: BasicConv2d;

  constructor(inChannels: number) {
    super();
    this.branch3x3 = new BasicConv2d(inChannels, 384, 3, { stride: 2 });
    this.branch3x3dbl_1 = new BasicConv2d(inChannels, 64, 1);
    this.branch3x3dbl_2 = new BasicConv2d(64, 96, 3, { padding: 1 });
    this.branch3x3dbl_3 = new BasicConv2d(96, 96, 3, { stride: 2 });
  }

  forward(x: Tensor): Tensor {
    const branch3x3 = this.branch3x3.forward(x);
    let branch3x3dbl = this.branch3x3dbl_2.forward(this.branch3x3dbl_1.forward(x));
    branch3x3dbl = this.branch3x3dbl_3.forward(branch3x3dbl);
    return cat([branch3x3, branch3x3dbl, F.maxPool2d(x, 3, { stride: 2 })], 1);
  }
}

const row = { padding: [0, 3] } as const;
const column = { padding: [3, 0] } as const;

/** Figure 6: 7×7 as 1×7 after 7×1. */
export class InceptionC extends Module {
  readonly branch1x1: BasicConv2d;
  readonly branch7x7_1: BasicConv2d;
  readonly branch7x7_2: BasicConv2d;
  readonly branch7x7_3: BasicConv2d;
  readonly branch7x7dbl_1: BasicConv2d;
  readonly branch7x7dbl_2: BasicConv2d;
  readonly branch7x7dbl_3: BasicConv2d;
  readonly branch7x7dbl_4: BasicConv2d;
  readonly branch7x7dbl_5: BasicConv2d;
  readonly branch_pool: BasicConv2d;

  /** `c7`: channels between the 7×7 convolutions. */
  constructor(inChannels: number, c7: number) {
    super();
    this.branch1x1 = new BasicConv2d(inChannels, 192, 1);
    this.branch7x7_1 = new BasicConv2d(inChannels, c7, 1);
    this.branch7x7_2 = new BasicConv2d(c7, c7, [1, 7], row);
    this.branch7x7_3 = new BasicConv2d(c7, 192, [7, 1], column);
    this.branch7x7dbl_1 = new BasicConv2d(inChannels, c7, 1);
    this.branch7x7dbl_2 = new BasicConv2d(c7, c7, [7, 1], column);
    this.branch7x7dbl_3 = new BasicConv2d(c7, c7, [1, 7], row);
    this.branch7x7dbl_4 = new BasicConv2d(c7, c7, [7, 1], column);
    this.branch7x7dbl_5 = new BasicConv2d(c7, 192, [1, 7], row);
    this.branch_pool = new BasicConv2d(inChannels, 192, 1);
  }

  forward(x: Tensor): Tensor {
    const branch1x1 = this.branch1x1.forward(x);
    const branch7x7 = this.branch7x7_3.forward(this.branch7x7_2.forward(this.branch7x7_1.forward(x)));
    let branch7x7dbl = this.branch7x7dbl_2.forward(this.branch7x7dbl_1.forward(x));
    branch7x7dbl = this.branch7x7dbl_4.forward(this.branch7x7dbl_3.forward(branch7x7dbl));
    branch7x7dbl = this.branch7x7dbl_5.forward(branch7x7dbl);
    return cat([branch1x1, branch7x7, branch7x7dbl, this.branch_pool.forward(averaged(x))], 1);
  }
}

/** As InceptionB, with 7×7 before. */
export class InceptionD extends Module {
  readonly branch3x3_1: BasicConv2d;
  readonly branch3x3_2: BasicConv2d;
  readonly branch7x7x3_1: BasicConv2d;
  readonly branch7x7x3_2: BasicConv2d;
  readonly branch7x7x3_3: BasicConv2d;
  readonly branch7x7x3_4: BasicConv2d;

  constructor(inChannels: number) {
    super();
    this.branch3x3_1 = new BasicConv2d(inChannels, 192, 1);
    this.branch3x3_2 = new BasicConv2d(192, 320, 3, { stride: 2 });
    this.branch7x7x3_1 = new BasicConv2d(inChannels, 192, 1);
    this.branch7x7x3_2 = new BasicConv2d(192, 192, [1, 7], row);
    this.branch7x7x3_3 = new BasicConv2d(192, 192, [7, 1], column);
    this.branch7x7x3_4 = new BasicConv2d(192, 192, 3, { stride: 2 });
  }

  forward(x: Tensor): Tensor {
    const branch3x3 = this.branch3x3_2.forward(this.branch3x3_1.forward(x));
    let branch7x7x3 = this.branch7x7x3_2.forward(this.branch7x7x3_1.forward(x));
    branch7x7x3 = this.branch7x7x3_4.forward(this.branch7x7x3_3.forward(branch7x7x3));
    return cat([branch3x3, branch7x7x3, F.maxPool2d(x, 3, { stride: 2 })], 1);
  }
}

/** Figure 7: 1×3 and 3×1 side by side. */
export class InceptionE extends Module {
  readonly branch1x1: BasicConv2d;
  readonly branch3x3_1: BasicConv2d;
  readonly branch3x3_2a: BasicConv2d;
  readonly branch3x3_2b: BasicConv2d;
  readonly branch3x3dbl_1: BasicConv2d;
  readonly branch3x3dbl_2: BasicConv2d;
  readonly branch3x3dbl_3a: BasicConv2d;
  readonly branch3x3dbl_3b: BasicConv2d;
  readonly branch_pool: BasicConv2d;

  constructor(inChannels: number) {
    super();
    this.branch1x1 = new BasicConv2d(inChannels, 320, 1);
    this.branch3x3_1 = new BasicConv2d(inChannels, 384, 1);
    this.branch3x3_2a = new BasicConv2d(384, 384, [1, 3], { padding: [0, 1] });
    this.branch3x3_2b = new BasicConv2d(384, 384, [3, 1], { padding: [1, 0] });
    this.branch3x3dbl_1 = new BasicConv2d(inChannels, 448, 1);
    this.branch3x3dbl_2 = new BasicConv2d(448, 384, 3, { padding: 1 });
    this.branch3x3dbl_3a = new BasicConv2d(384, 384, [1, 3], { padding: [0, 1] });
    this.branch3x3dbl_3b = new BasicConv2d(384, 384, [3, 1], { padding: [1, 0] });
    this.branch_pool = new BasicConv2d(inChannels, 192, 1);
  }

  forward(x: Tensor): Tensor {
    const branch1x1 = this.branch1x1.forward(x);
    const branch3x3 = this.branch3x3_1.forward(x);
    const branch3x3dbl = this.branch3x3dbl_2.forward(this.branch3x3dbl_1.forward(x));
    return cat(
      [
        branch1x1,
        cat([this.branch3x3_2a.forward(branch3x3), this.branch3x3_2b.forward(branch3x3)], 1),
        cat([this.branch3x3dbl_3a.forward(branch3x3dbl), this.branch3x3dbl_3b.forward(branch3x3dbl)], 1),
        this.branch_pool.forward(averaged(x)),
      ],
      1,
    );
  }
}
