/** Resizing and sampling of images. */
import { float, type Attributes } from '../builder.js';
import type { Conversion, Converter, ConverterTable } from '../conversion.js';

/** Where PyTorch looks for the pixel of a result: by its centre, or with the corners on each other. */
function coordinates(alignCorners: boolean): Attributes {
  return { coordinate_transformation_mode: alignCorners ? 'align_corners' : 'half_pixel' };
}

/** `sizes` and `scales` are the places of output_size and scale_factors among the arguments. */
function resize(c: Conversion, sizesAt: number, scalesAt: number, attributes: Attributes): string {
  const slot = c.slot(0);
  if (c.rank(0) !== 4) throw c.unsupported('an input that is not [N, C, H, W]');
  const scaled = (factors: readonly number[]): string =>
    c.emit('Resize', [c.tensor(0), '', c.constant([1, 1, ...factors], 'float32')], attributes);
  if (!c.isNull(scalesAt)) {
    return scaled(
      c.list(scalesAt).map((factor) => {
        if (typeof factor !== 'number') throw c.unsupported('a scale that depends on the size of the input');
        return factor;
      }),
    );
  }
  const target = c.sizes(sizesAt);
  // Whole factors say the same without a computation of shapes.
  const ratios = target.map((size, i) => {
    const [from, to] = [c.length(slot, 2 + i), c.fold(size)];
    return typeof from === 'number' && typeof to === 'number' ? to / from : NaN;
  });
  if (ratios.every(Number.isInteger)) return scaled(ratios);
  const sizes = c.sizeTensor([c.length(slot, 0), c.length(slot, 1), ...target]);
  return c.emit('Resize', [c.tensor(0), '', '', sizes], attributes);
}

/** aten::upsample_nearest2d.vec(input, output_size?, scale_factors?) */
const nearest: Converter = (c) =>
  resize(c, 1, 2, { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' });

/** aten::_upsample_nearest_exact2d.vec */
const nearestExact: Converter = (c) =>
  resize(c, 1, 2, { mode: 'nearest', ...coordinates(false), nearest_mode: 'round_prefer_ceil' });

/** The antialiased forms leave out what lies beyond the border, in both kernels. */
const antialiased = { antialias: 1, exclude_outside: 1 } as const;

/** aten::upsample_bilinear2d.vec(input, output_size?, align_corners, scale_factors?) and its antialiased form */
function bilinear(antialias: boolean): Converter {
  return (c) =>
    resize(c, 1, 3, { mode: 'linear', ...coordinates(c.bool(2)), ...(antialias ? antialiased : {}) });
}

/** Keys 1981 with a = −0.75; the antialiased form takes −0.5, as Pillow does. */
function bicubic(antialias: boolean): Converter {
  return (c) =>
    resize(c, 1, 3, {
      mode: 'cubic',
      ...coordinates(c.bool(2)),
      cubic_coeff_a: float(antialias ? -0.5 : -0.75),
      ...(antialias ? antialiased : {}),
    });
}

/** aten::grid_sampler(_2d)(input, grid, interpolation, padding, align_corners) */
function gridSampler(c: Conversion): string {
  if (c.rank(0) !== 4) throw c.unsupported('volumes');
  const mode = ['bilinear', 'nearest', 'bicubic'][c.number(2, 0)];
  const padding = ['zeros', 'border', 'reflection'][c.number(3, 0)];
  if (mode === undefined || padding === undefined) throw c.unsupported('this mode');
  return c.emit('GridSample', [c.tensor(0), c.tensor(1)], {
    mode,
    padding_mode: padding,
    align_corners: Number(c.bool(4)),
  });
}

export const resampleConverters: ConverterTable = {
  'aten::upsample_nearest2d.vec': nearest,
  'aten::_upsample_nearest_exact2d.vec': nearestExact,
  'aten::upsample_bilinear2d.vec': bilinear(false),
  'aten::upsample_bicubic2d.vec': bicubic(false),
  'aten::_upsample_bilinear2d_aa.vec': bilinear(true),
  'aten::_upsample_bicubic2d_aa.vec': bicubic(true),
  'aten::grid_sampler': gridSampler,
  'aten::grid_sampler_2d': gridSampler,
};
