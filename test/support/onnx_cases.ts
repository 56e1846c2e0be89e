/** Small models, each of one or a few operators, that between them use every conversion of the ONNX writer. */
import {
  Buffer,
  call,
  cat,
  functional as F,
  GroupNorm,
  LayerNorm,
  Module,
  Parameter,
  stack,
  where,
  type Tensor,
} from '#fornax/nn/index.js';

class Case extends Module {
  readonly w: Parameter;
  readonly table: Buffer;
  readonly norm = new LayerNorm(6);
  readonly groups = new GroupNorm(2, 4);
  readonly matrix = new Parameter([5, 6], { kind: 'normal', mean: 0, std: 0.5 });
  readonly bias = new Parameter([5], { kind: 'normal', mean: 0, std: 0.5 });

  constructor(private readonly compute: (x: Tensor, self: Case) => Tensor) {
    super();
    this.w = new Parameter([4], { kind: 'normal', mean: 1, std: 0.2 });
    this.table = new Buffer([6], { kind: 'values', values: [3, 0, 5, 1, 1, 2] }, 'int64');
  }

  forward(image: Tensor): Tensor {
    return this.compute(image, this);
  }
}

const pool = (op: string, ...args: Parameters<typeof call>[1]): ((x: Tensor) => Tensor) => {
  return (x) => call(op, [x, ...args]);
};

/** Of an input [batch, 4, 7, 6] (or as stated). What is compared is one float tensor. */
const cases: Record<string, (x: Tensor, self: Case) => Tensor> = {
  // arithmetic
  'sub, rsub with alpha': (x) =>
    call('aten::rsub.Scalar', [call('aten::sub.Tensor', [x, x.mul(0.3), 2]), 1, 0.5]),
  'div by the size of the batch': (x) => x.div(x.size(0)).add(x.size(2)),
  'floor_divide and remainder': (x) =>
    call('aten::floor_divide', [x.mul(7), x.add(3)]).add(call('aten::remainder.Scalar', [x.mul(5), 1.5])),
  'pow and square': (x) =>
    x
      .abs()
      .add(0.1)
      .pow(1.7)
      .add(x.pow(2))
      .add(x.square())
      .add(call('aten::pow.Scalar', [2, x])),
  'unary functions': (x) =>
    x
      .neg()
      .exp()
      .add(x.abs().add(1).log())
      .add(x.abs().sqrt())
      .add(x.square().add(1).rsqrt())
      .add(x.add(3).reciprocal()),
  'sin, cos, erf, floor, ceil, round, sign': (x) =>
    ['sin', 'cos', 'erf', 'floor', 'ceil', 'round', 'sign', 'atan'].reduce(
      (sum, op) => sum.add(call(`aten::${op}`, [x.mul(2)])),
      x,
    ),
  'comparison, where, masked_fill': (x) => where(x.gt(0.2), x, x.mul(2)).maskedFill(x.lt(x.mean()), -3),
  'logical operators': (x) =>
    call('aten::logical_and', [
      x.gt(0),
      call('aten::logical_not', [call('aten::logical_or', [x.ge(0.5), x.le(-0.5)])]),
    ]).to('float32'),
  'integers and floats mixed': (x, { table }) =>
    x
      .mul(table)
      .add(call('aten::_to_copy', [table, { dtype: 'int32' }]))
      .add(x.ne(0)),
  'clamp with numbers and tensors': (x) =>
    x
      .clamp({ min: -0.4 })
      .clamp({ max: 0.5 })
      .add(call('aten::clamp.Tensor', [x, x.mul(0.1), x.add(0.1)])),
  'maximum, minimum': (x) => call('aten::maximum', [x, x.neg()]).sub(call('aten::minimum', [x, x.mul(2)])),
  'addcmul, addcdiv, lerp': (x) =>
    call('aten::addcmul', [x, x, x.add(1), 0.5])
      .add(call('aten::addcdiv', [x, x, x.add(3), 2]))
      .add(call('aten::lerp.Scalar', [x, x.mul(3), 0.3])),
  'bits of booleans, equality': (x) => {
    const [low, high] = [x.lt(0.5), call('aten::eq.Tensor', [x, x.relu()])];
    const both = call('aten::bitwise_and.Tensor', [low, call('aten::bitwise_not', [high])]);
    return call('aten::bitwise_or.Tensor', [both, x.gt(0.9)]).to('float32');
  },
  'clamp_min, clamp_max, tan': (x) =>
    call('aten::clamp_min', [x, -0.2])
      .add(call('aten::clamp_max.Tensor', [x, x.neg()]))
      .add(call('aten::tan', [x])),
  // activations
  'relu, relu6, leaky_relu, silu, gelu': (x) =>
    F.relu(x)
      .add(F.relu6(x.mul(9)))
      .add(F.leakyRelu(x, 0.2))
      .add(F.silu(x))
      .add(F.gelu(x))
      .add(F.gelu(x, 'tanh')),
  'hardswish, hardsigmoid, hardtanh': (x) =>
    F.hardswish(x.mul(5))
      .add(F.hardsigmoid(x.mul(4)))
      .add(F.hardtanh(x, -0.3, 0.6)),
  'mish, elu, selu, softplus, log_sigmoid': (x) =>
    ['mish', 'elu', 'selu', 'softplus', 'log_sigmoid'].reduce(
      (sum, op) => sum.add(call(`aten::${op}`, [x])),
      x,
    ),
  'sigmoid, tanh, glu, prelu': (x, { w }) =>
    call('aten::glu', [x, -1])
      .sigmoid()
      .tanh()
      .mul(call('aten::prelu', [x, w]).slice(3, 0, 3)),
  'softmax and log_softmax': (x) => x.softmax(1).add(x.logSoftmax(-1)),
  // reductions
  'mean, sum, amax, amin': (x) =>
    x
      .mean([2, 3], { keepdim: true })
      .add(x.sum(1, { keepdim: true }))
      .add(x.amax([1, 2, 3], { keepdim: true }))
      .add(x.amin(3, { keepdim: true })),
  'reductions over all': (x) =>
    x
      .mean()
      .add(x.sum())
      .add(call('aten::max', [x]))
      .add(call('aten::min', [x]))
      .reshape(1),
  'var and std': (x) =>
    x
      .var([1, 2])
      .add(x.std([1, 2], { correction: 0 }))
      .add(x.var(0, { correction: 0 }).amax([0, 1])),
  'var over the batch, corrected': (x) => x.add(x.var([0, 1], { keepdim: true })),
  var_mean: (x) => {
    const [variance, mean] = call('aten::var_mean.correction', [x, [3], 1, false], { outputs: 2 });
    return variance!.add(mean!.mul(2));
  },
  'argmax and argmin': (x) => x.argmax(1).add(x.argmin(1)).to('float32').add(x.argmax().to('float32')),
  'max with indices': (x) => {
    const [values, indices] = call('aten::max.dim', [x, 2, true], { outputs: 2 });
    return values!.add(indices!.to('float32'));
  },
  'logsumexp, cumsum, topk': (x) => {
    const [top] = call('aten::topk', [x, 3, 3], { outputs: 2 });
    return top!.add(call('aten::logsumexp', [x, [3], true])).add(call('aten::cumsum', [x, 3]).slice(3, 0, 3));
  },
  norms: (x) => F.normalize(x).add(F.normalize(x, { p: 1, dim: -1 }).add(F.normalize(x, { p: 3, dim: 2 }))),
  'layer_norm, group_norm': (x, { norm, groups }) => norm.forward(x).add(groups.forward(x)),
  'batch_norm without statistics': (x) => F.batchNorm(x, {}),
  prod: (x) => call('aten::prod', [x.slice(1, 0, 1).add(2)]).reshape(1),
  // shapes
  'copies and views': (x) => {
    const copy = call('aten::clone', [call('aten::alias', [x.contiguous()])]);
    return call('aten::view', [copy.detach(), [-1, 4, x.size(2).mul(x.size(3))]]).add(
      call('aten::type_as', [x.flatten(2).gt(0), x]),
    );
  },
  'flatten, unflatten, reshape': (x) =>
    x.flatten(1).unflatten(1, [2, 2, -1]).reshape(x.size(0), 4, x.size(2), -1),
  'permute, transpose, movedim, t': (x) =>
    call('aten::t', [
      call('aten::movedim.intlist', [x.permute(0, 2, 3, 1).transpose(1, -1), [3], [1]]).flatten(1),
    ]),
  'squeeze and unsqueeze': (x) => x.mean(1, { keepdim: true }).squeeze(1).unsqueeze(-1).squeeze(-1),
  'expand and repeat': (x, { w }) =>
    w.reshape(1, 4, 1, 1).expand(x.size(0), -1, -1, x.size(3)).repeat(1, 1, x.size(2), 1).mul(x),
  'cat, stack, mixed types': (x) => cat([x, x.gt(0).to('int64'), stack([x, x], 1).select(1, 0)], 1),
  'chunk and split': (x) => {
    const [a, b] = x.chunk(2, 1) as [Tensor, Tensor];
    const [c, , d] = x.split([1, 2, 4], 2) as [Tensor, Tensor, Tensor];
    const pieces = x.split(4, 3) as [Tensor, Tensor];
    return cat([a.sub(b).flatten(1), c.flatten(1), d.flatten(1), pieces[1].flatten(1)], 1);
  },
  'unbind, select, narrow': (x) => {
    const rows = x.unbind(1);
    return rows[0]!
      .add(rows[3]!)
      .add(x.select(1, -2))
      .add(x.narrow(2, -7, 7).select(1, 1));
  },
  'slices with steps and negative bounds': (x) =>
    x
      .slice(2, 1, -1, 2)
      .slice(3, -4, null)
      .add(x.slice(2, null, 3).slice(3, 1, 5)),
  'slice by a size of the input': (x) => cat([x, x], 0).slice(0, x.size(0)).mul(2),
  'roll and flip': (x) => x.roll([2, -1], [2, 3]).add(x.flip(1, 3)),
  'index, index_select, gather, embedding': (x, { table, matrix }) =>
    x
      .indexSelect(3, table)
      .add(call('aten::index.Tensor', [x, [null, null, null, table]]))
      .add(call('aten::embedding', [matrix.transpose(0, 1), table]).mean(1))
      .add(x.gather(3, x.gt(0).to('int64'))),
  'index with several tensors': (x, { matrix, table }) =>
    call('aten::index.Tensor', [matrix.transpose(0, 1), [table, table.sub(table)]]).add(x),
  'tril, triu': (x) => call('aten::tril', [x]).add(call('aten::triu', [x, 1]).mul(2)),
  pads: (x) =>
    F.pad(F.pad(F.pad(x, [1, 2, 0, 1], 'reflect'), [1, 0], 'constant', 0.5), [2, 1, 1, 3], 'replicate'),
  'pads by their own operators': (x) =>
    call('aten::reflection_pad2d', [call('aten::constant_pad_nd', [x, [1, 0, 2, 1], -1]), [1, 2, 0, 1]]).add(
      call('aten::replication_pad2d', [x, [2, 2, 1, 3]]),
    ),
  'circular pads': (x) => F.pad(x, [2, 1, 0, 3], 'circular'),
  'rounded quotients': (x) =>
    call('aten::div.Tensor_mode', [x.mul(5), x.add(3), 'trunc'])
      .add(call('aten::div.Tensor_mode', [x.mul(5).to('int64'), x.mul(3).to('int64').abs().add(1), 'trunc']))
      .add(call('aten::div.Scalar_mode', [x, 0.3, 'floor'])),
  'negative pads': (x) => F.pad(x, [-1, 2, 1, -2]),
  'pixel_shuffle, channel_shuffle': (x) =>
    call('aten::channel_shuffle', [F.pixelShuffle(x, 2).repeat(1, 6, 1, 1), 3]),
  pixel_unshuffle: (x) => call('aten::pixel_unshuffle', [x.slice(2, 0, 6), 2]),
  'creation by sizes': (x) =>
    x
      .add(call('aten::arange', [x.size(3)]))
      .add(call('aten::zeros_like', [x]))
      .mul(call('aten::full', [[x.size(0), 1, 1, 1], 1.5]))
      .add(call('aten::new_ones', [x, [x.size(0), 4, 1, 1]])),
  'creation like another tensor': (x, { w }) => {
    const sizes = [x.size(0), 4, 1, 1];
    const made = [
      call('aten::zeros', [sizes]),
      call('aten::ones', [sizes]),
      call('aten::ones_like', [x]),
      call('aten::full_like', [x, 2.5]),
      call('aten::new_zeros', [x, sizes]),
      call('aten::new_full', [x, sizes, 0.25]),
      call('aten::expand_as', [w.reshape(4, 1, 1), x]),
    ];
    return made.reduce((sum, tensor) => sum.add(tensor), x);
  },
  // convolutions and matrices
  'convolutions of volumes and lines': (x, { w }) => {
    const volume = x.unsqueeze(1);
    const kernel = w.reshape(1, 1, 2, 2, 1);
    const cube = call('aten::conv_transpose3d.input', [call('aten::conv3d', [volume, kernel]), kernel]);
    const line = call('aten::conv_transpose1d', [
      x.flatten(2),
      w.reshape(4, 1, 1).expand(4, 2, 3),
      null,
      [2],
      [1],
    ]);
    return cube.squeeze(1).add(line.mean());
  },
  'convolution in its general form': (x, { w }) => {
    const kernel = w.reshape(4, 1, 1, 1).expand(4, 1, 2, 3);
    const args = [
      [2, 1],
      [1, 0],
      [1, 2],
    ];
    const down = call('aten::convolution', [x, kernel, w, ...args, false, [0, 0], 4]);
    return call('aten::convolution', [down, kernel, null, ...args, true, [1, 0], 4]);
  },
  'conv2d same, dilated, grouped': (x, { w }) => {
    const kernel = w.reshape(4, 1, 1, 1).expand(4, 1, 3, 2).mul(0.3);
    return F.conv2d(x, kernel, null, { padding: 'same', groups: 4 }).add(
      F.conv2d(x, kernel, w, { padding: [2, 1], dilation: 2, groups: 4 }).mean(),
    );
  },
  'conv1d, conv_transpose2d': (x, { w }) => {
    const line = call('aten::conv1d', [x.flatten(2), w.reshape(1, 4, 1).expand(2, 4, 3), null, [2], [1]]);
    const kernel = w.reshape(4, 1, 1, 1).expand(4, 2, 3, 3);
    const up = F.convTranspose2d(x, kernel, null, { stride: 2, padding: 1, outputPadding: 1, groups: 2 });
    return up.add(line.mean());
  },
  'linear of any rank': (x, { matrix, bias }) =>
    F.linear(x, matrix, bias)
      .mean(1)
      .add(F.linear(x.mean([1, 2]), matrix, bias).unsqueeze(1)),
  'addmm, baddbmm, bmm, matmul': (x, { matrix }) => {
    const a = x.select(1, 0);
    const product = call('aten::addmm', [
      matrix,
      call('aten::mm', [matrix, matrix.transpose(0, 1)]),
      matrix,
      0.5,
      2,
    ]);
    return call('aten::baddbmm', [a, a.bmm(a.transpose(1, 2)), a]).add(product.mean());
  },
  'attention with a mask': (x) =>
    F.scaledDotProductAttention(x, x.mul(2), x, { mask: x.matmul(x.transpose(2, 3)) }),
  'causal attention, own scale': (x) =>
    F.scaledDotProductAttention(x, x, x.slice(3, 0, 3), { causal: true, scale: 0.7 }),
  'attention with a boolean mask': (x) =>
    F.scaledDotProductAttention(x, x, x, { mask: x.matmul(x.transpose(2, 3)).gt(-9).detach() }),
  // pooling
  max_pool2d: pool('aten::max_pool2d', [3, 2], [2, 2], [1, 1]),
  'max_pool2d, dilated': pool('aten::max_pool2d', [2, 2], [1, 2], [1, 0], [2, 2]),
  'max_pool2d, ceil_mode': pool('aten::max_pool2d', [3, 3], [2, 2], [0, 1], [1, 1], true),
  'max_pool2d, a window in the padding dropped': pool(
    'aten::max_pool2d',
    [2, 2],
    [3, 3],
    [1, 1],
    [1, 1],
    true,
  ),
  'avg_pool2d, padding counts': pool('aten::avg_pool2d', [3, 3], [2, 2], [1, 1]),
  'avg_pool2d, padding does not count': pool('aten::avg_pool2d', [3, 3], [2, 2], [1, 1], false, false),
  'avg_pool2d, ceil_mode, padding counts': pool('aten::avg_pool2d', [3, 3], [2, 2], [1, 1], true, true),
  'avg_pool2d, ceil_mode, padding does not': pool('aten::avg_pool2d', [2, 2], [3, 3], [0, 0], true, false),
  'avg_pool2d with a divisor': pool('aten::avg_pool2d', [2, 2], [2, 2], [0, 0], false, true, 3),
  'zeros before max_pool2d': (x) => F.maxPool2d(F.pad(x.sub(3), [0, 1, 0, 1]), 3, { stride: 2 }),
  'adaptive_avg_pool2d to 1, to divisors, to others': (x) =>
    F.adaptiveAvgPool2d(x, 1)
      .add(F.adaptiveAvgPool2d(x, [7, 2]).mean())
      .add(F.adaptiveAvgPool2d(x, [3, 4]).amax([2, 3], { keepdim: true })),
  adaptive_max_pool2d: (x) =>
    call('aten::adaptive_max_pool2d', [x, [1, 1]], { outputs: 2 })[0]!.add(
      call('aten::adaptive_max_pool2d', [x, [3, 4]], { outputs: 2 })[0]!,
    ),
  'adaptive_avg_pool2d that keeps a side': (x) => F.adaptiveAvgPool2d(x, [1, null]),
  // resampling
  nearest: (x) => F.interpolate(x, { size: [13, 9] }).add(F.interpolate(x, { scaleFactor: 2 }).mean()),
  'nearest-exact': (x) => F.interpolate(x, { size: [13, 9], mode: 'nearest-exact' }),
  bilinear: (x) =>
    F.interpolate(x, { size: [10, 11], mode: 'bilinear' }).add(
      F.interpolate(x, { size: [1, 1], mode: 'bilinear' }),
    ),
  'bilinear, corners aligned, factors': (x) =>
    F.interpolate(x, { scaleFactor: [1.5, 2.5], mode: 'bilinear', alignCorners: true }),
  bicubic: (x) =>
    F.interpolate(x, { size: [10, 11], mode: 'bicubic' }).add(
      F.interpolate(x, { size: [10, 11], mode: 'bicubic', alignCorners: true }),
    ),
  'bilinear and bicubic, antialiased': (x) =>
    F.interpolate(x, { size: [3, 4], mode: 'bilinear', antialias: true }).add(
      F.interpolate(x, { size: [3, 4], mode: 'bicubic', antialias: true }),
    ),
  grid_sample: (x) => {
    const grid = x.permute(0, 2, 3, 1).slice(3, 0, 2).mul(1.3);
    return call('aten::grid_sampler_2d', [x, grid, 0, 0, false])
      .add(F.gridSample(x, grid, { paddingMode: 'border', alignCorners: true }))
      .add(F.gridSample(x, grid, { mode: 'nearest', paddingMode: 'reflection' }));
  },
};

export interface OnnxCase {
  name: string;
  module: Module;
  shape: number[];
}

export const onnxCases: OnnxCase[] = Object.entries(cases).map(([name, compute]) => ({
  name,
  module: new Case(compute),
  shape: [1, 4, 7, 6],
}));

/** Models of the zoo at sizes that take no time: each family with operators that no other one uses. */
export const onnxModels: readonly { name: string; side: number; other: Record<string, number> }[] = [
  { name: 'tiny_cnn', side: 32, other: { batch: 3, height: 40, width: 32 } },
  { name: 'resnet18', side: 64, other: { batch: 3, height: 64, width: 96 } },
  { name: 'mobilenet_v3_small', side: 64, other: { batch: 3, height: 96, width: 64 } },
  { name: 'efficientnet_b0', side: 64, other: { batch: 3 } },
  { name: 'shufflenet_v2_x0_5', side: 64, other: { batch: 3 } },
  { name: 'vgg11_bn_cifar', side: 32, other: { batch: 3 } },
  { name: 'squeezenet1_1', side: 64, other: { batch: 3, height: 70, width: 75 } },
  { name: 'googlenet', side: 64, other: { batch: 3, height: 70, width: 75 } },
  { name: 'convnext_tiny', side: 64, other: { batch: 3 } },
  { name: 'swin_t', side: 64, other: { batch: 3 } },
  { name: 'featherface', side: 64, other: { batch: 3, height: 100, width: 140 } },
  { name: 'lraspp_mobilenet_v3_large', side: 64, other: { batch: 2, height: 96, width: 64 } },
  { name: 'unet_tiny', side: 32, other: { batch: 3, height: 64, width: 48 } },
];
