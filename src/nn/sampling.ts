/** Sampling at computed positions, and deformable convolution, which is made of it; part of functional.ts. */
import { ArgumentError } from '../errors.js';
import { pair, type Pair } from './options.js';
import type { SymInt } from './sym_int.js';
import { call, stack, type SymbolicTensor } from './tensor.js';

type Tensor = SymbolicTensor;

const gridModes = { bilinear: 0, nearest: 1, bicubic: 2 } as const;
const gridPaddings = { zeros: 0, border: 1, reflection: 2 } as const;

export interface GridSampleOptions {
  /** Default 'bilinear'. */
  mode?: keyof typeof gridModes;
  /** What lies outside the image. Default 'zeros'. */
  paddingMode?: keyof typeof gridPaddings;
  /** Whether −1 and 1 are the centres of the corner pixels (true) or their outer edges. Default false. */
  alignCorners?: boolean;
}

/** `x` [N, C, H, W] at the positions `grid` [N, H', W', 2], (x, y) in −1…1 → [N, C, H', W']. */
export function gridSample(x: Tensor, grid: Tensor, options: GridSampleOptions = {}): Tensor {
  const { mode = 'bilinear', paddingMode = 'zeros', alignCorners = false } = options;
  if (!Object.hasOwn(gridModes, mode) || !Object.hasOwn(gridPaddings, paddingMode)) {
    throw new ArgumentError({ what: `gridSample has no mode '${mode}' with padding '${paddingMode}'` });
  }
  return call('aten::grid_sampler', [x, grid, gridModes[mode], gridPaddings[paddingMode], alignCorners]);
}

export interface DeformConvOptions {
  /** Default 1. */
  stride?: Pair;
  /** Zeros around the image. Default 0. */
  padding?: Pair;
  /** Default 1. */
  dilation?: Pair;
  /** Groups of input and output channels. Default: what the sizes of `x` and `weight` tell. */
  groups?: number;
  /** Groups of input channels that move together. Default: what the size of `offset` tells. */
  offsetGroups?: number;
  /** Factor on each sample, [N, G·kH·kW, H', W']: then it is modulated (version 2). Default: none. */
  mask?: Tensor | null;
}

/** Up to here positions are exact: a bound keeps the expression of the canvas's size short. */
const exactSide = 2 ** 15;

/** The smallest power of two that is at least `side`, and at least 8; beyond the exact sides `side` itself. */
function powerOfTwo(side: SymInt): SymInt {
  let canvas = side.mul(0).add(8);
  for (let step = 8; step < exactSide; step *= 2) canvas = canvas.add(side.sub(step).max(0).min(1).mul(step));
  return canvas.max(side);
}

/** 0, 1, 2… times `step`, plus `start`. */
function positions(length: number | SymInt, step: number, start: number): Tensor {
  const indices = call('aten::arange', [length, { dtype: 'float32' }]);
  return step === 1 && start === 0 ? indices : indices.mul(step).add(start);
}

/**
 * Deformable convolution (Dai et al. 2017, arXiv:1703.06211), modulated with a mask (Zhu et al. 2019,
 * arXiv:1811.11168), with the meaning and the order of channels of torchvision.ops.deform_conv2d: each tap of the
 * kernel reads at its usual place plus an offset, bilinearly, zeros outside the image. Differentiable in all its
 * tensors.
 *
 * grid_sampler takes positions scaled to −1…1, and scaling and back moves them by about 1e-7 of the side. The
 * image is therefore put onto a canvas whose sides are powers of two, where scaling is exact: whole positions
 * (all of them, while offsets are zero) read exactly one pixel and have torchvision's gradient.
 *
 * @param x [N, C, H, W]; positions are exact for sides up to 32768.
 * @param offset [N, 2·G·kH·kW, H', W'], G groups of channels that move together; for each tap y, then x, in pixels.
 * @param weight [O, C / groups, kH, kW]; the number of groups follows from it.
 * @param bias [O].
 * @returns [N, O, H', W'].
 * @throws ArgumentError if the numbers of channels do not fit together.
 */
export function deformConv2d(
  x: Tensor,
  offset: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: DeformConvOptions = {},
): Tensor {
  const { mask = null } = options;
  const [strideY, strideX] = pair(options.stride ?? 1);
  const [padY, padX] = pair(options.padding ?? 0);
  const [dilationY, dilationX] = pair(options.dilation ?? 1);
  const [outChannels, groupChannels, kernelY, kernelX] = weight.shape.map((length) => length.value);
  const taps = kernelY! * kernelX!;
  const channels = options.groups === undefined ? x.size(1).value : groupChannels! * options.groups;
  const moved = options.offsetGroups ?? offset.size(1).value / (2 * taps);
  if (!Number.isInteger(moved) || moved < 1 || channels % moved !== 0 || channels % groupChannels! !== 0) {
    throw new ArgumentError({
      what:
        `deformConv2d: ${channels} channels do not fit a weight for ${groupChannels} of them and ` +
        `${moved} groups of offsets for ${taps} taps`,
      fix: 'offsets have 2·taps channels for each group of channels that move together',
    });
  }
  const [height, width] = [offset.size(2), offset.size(3)];
  const [canvasY, canvasX] = [powerOfTwo(x.size(2)), powerOfTwo(x.size(3))];
  const canvas = call('aten::constant_pad_nd', [
    x,
    [0, canvasX.sub(x.size(3)), 0, canvasY.sub(x.size(2))],
    0,
  ]);

  // [N·G, kH, kW, H', W'] of each axis; half a pixel is added, because −1 is the outer edge of the first pixel.
  const byTap = offset.reshape(-1, kernelY!, kernelX!, 2, height, width);
  const baseY = positions(kernelY!, dilationY, 0.5 - padY)
    .reshape(kernelY!, 1, 1, 1)
    .add(positions(height, strideY, 0).reshape(height, 1));
  const baseX = positions(kernelX!, dilationX, 0.5 - padX)
    .reshape(kernelX!, 1, 1)
    .add(positions(width, strideX, 0));
  const gridY = byTap.select(3, 0).add(baseY).div(canvasY.floordiv(2)).sub(1);
  const gridX = byTap.select(3, 1).add(baseX).div(canvasX.floordiv(2)).sub(1);
  const grid = stack([gridX, gridY], -1).reshape(-1, height.mul(taps), width, 2);

  const image = canvas.reshape(-1, channels / moved, canvasY, canvasX);
  let samples = gridSample(image, grid);
  if (mask !== null) samples = samples.mul(mask.reshape(-1, 1, height.mul(taps), width));
  // The sum over channels and taps is a 1×1 convolution over [N, C·kH·kW, H', W'].
  return call('aten::conv2d', [
    samples.reshape(-1, channels * taps, height, width),
    weight.reshape(outChannels!, groupChannels! * taps, 1, 1),
    bias,
    [1, 1],
    [0, 0],
    [1, 1],
    channels / groupChannels!,
  ]);
}
