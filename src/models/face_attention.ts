/** The attention modules of the FeatherFace family. */
import {
  BatchNorm2d,
  call,
  cat,
  Conv2d,
  Flatten,
  functional as F,
  init,
  Linear,
  Module,
  Parameter,
  ReLU,
  Sequential,
  type Tensor,
} from '../nn/index.js';

/** Average (or maximum) over height and width: [N, C, H, W] → [N, C]. */
const average = (x: Tensor): Tensor => x.mean([2, 3]);
const maximum = (x: Tensor): Tensor => x.amax([2, 3]);

class ChannelGate extends Module {
  readonly mlp: Sequential;

  constructor(channels: number, reduction: number) {
    super();
    const hidden = Math.floor(channels / reduction);
    this.mlp = new Sequential(
      new Flatten(),
      new Linear(channels, hidden),
      new ReLU(),
      new Linear(hidden, channels),
    );
  }

  forward(x: Tensor): Tensor {
    const scores = this.mlp.forward(average(x)).add(this.mlp.forward(maximum(x)));
    return x.mul(scores.sigmoid().unsqueeze(2).unsqueeze(3));
  }
}

class SpatialConv extends Module {
  readonly conv: Conv2d;
  readonly bn: BatchNorm2d;

  constructor() {
    super();
    this.conv = new Conv2d(2, 1, 7, { padding: 3, bias: false });
    this.bn = new BatchNorm2d(1, { momentum: 0.01 });
  }

  forward(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x));
  }
}

class SpatialGate extends Module {
  readonly spatial = new SpatialConv();

  forward(x: Tensor): Tensor {
    const pooled = cat([x.amax(1, { keepdim: true }), x.mean(1, { keepdim: true })], 1);
    return x.mul(this.spatial.forward(pooled).sigmoid());
  }
}

/** CBAM (Woo et al. 2018, arXiv:1807.06521): which channels, then where. Reduction 16. */
export class CBAM extends Module {
  readonly ChannelGate: ChannelGate;
  readonly SpatialGate: SpatialGate;

  constructor(channels: number) {
    super();
    this.ChannelGate = new ChannelGate(channels, 16);
    this.SpatialGate = new SpatialGate();
  }

  forward(x: Tensor): Tensor {
    return this.SpatialGate.forward(this.ChannelGate.forward(x));
  }
}

/** One convolution along the channels, without bias. */
class ChannelConv extends Module {
  readonly weight: Parameter;

  constructor(readonly kernel: number) {
    super();
    this.weight = new Parameter([1, 1, kernel]);
    init.kaimingUniform(this.weight, { a: Math.sqrt(5) });
  }

  forward(x: Tensor): Tensor {
    return call('aten::conv1d', [x, this.weight, null, [1], [(this.kernel - 1) / 2]]);
  }
}

/** ECA (Wang et al. 2020, arXiv:1910.03151): each channel is weighed by its neighbours' averages. */
class EfficientChannelAttention extends Module {
  readonly conv: ChannelConv;

  constructor(channels: number) {
    super();
    // Equation 12 with γ = 2 and b = 1, up to the next odd number.
    const size = Math.floor(Math.abs(Math.log2(channels) / 2 + 1 / 2));
    this.conv = new ChannelConv(size % 2 === 0 ? size + 1 : size);
  }

  forward(x: Tensor): Tensor {
    const scores = this.conv.forward(average(x).unsqueeze(1)).squeeze(1);
    return x.mul(scores.sigmoid().unsqueeze(2).unsqueeze(3));
  }
}

class SpatialAttention extends Module {
  readonly conv: Conv2d;

  constructor() {
    super();
    this.conv = new Conv2d(2, 1, 7, { padding: 3, bias: false });
  }

  forward(x: Tensor): Tensor {
    const pooled = cat([x.mean(1, { keepdim: true }), x.amax(1, { keepdim: true })], 1);
    return x.mul(this.conv.forward(pooled).sigmoid());
  }
}

/** ECA, then the spatial half of CBAM, in sequence. */
export class EcaCbam extends Module {
  readonly eca: EfficientChannelAttention;
  readonly sam: SpatialAttention;

  constructor(channels: number) {
    super();
    this.eca = new EfficientChannelAttention(channels);
    this.sam = new SpatialAttention();
  }

  forward(x: Tensor): Tensor {
    return this.sam.forward(this.eca.forward(x));
  }
}

/** relu(attention(x) + x) */
export function withResidual(attention: CBAM, x: Tensor): Tensor {
  return F.relu(attention.forward(x).add(x));
}
