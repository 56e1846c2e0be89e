/** The windows of swin.ts: attention within them, and the padding that any other size needs. */
import {
  Buffer,
  call,
  cat,
  functional as F,
  init,
  Linear,
  Module,
  Parameter,
  type IntLike,
  type SymInt,
  type Tensor,
} from '../nn/index.js';
import { missing } from './padding.js';

/** Side of a window, its pixels, and how far every second block shifts it. */
const side = 7;
const area = side * side;
const halfSide = 3;

/** For each pair of pixels of a window its row in the table of relative positions: [area²]. */
function relativePositions(): number[] {
  const pixels = Array.from({ length: area }, (_, i) => [Math.floor(i / side), i % side] as const);
  return pixels.flatMap(([y, x]) =>
    pixels.map(([v, u]) => (y - v + side - 1) * (2 * side - 1) + (x - u + side - 1)),
  );
}

/** Pads rows and columns of [N, H, W, C] at their ends. */
export function padEnd(x: Tensor, rows: IntLike, columns: IntLike): Tensor {
  return rows === 0 && columns === 0 ? x : F.pad(x, [0, 0, 0, columns, 0, rows]);
}

const minus = (a: number, b: IntLike): IntLike => (typeof b === 'number' ? a - b : b.neg().add(a));

/** How far a length is shifted: not where a single window covers it. */
function shiftOf(length: SymInt): IntLike {
  if (length.example <= side && length.le(side)) return 0;
  return length.sub(side).min(halfSide);
}

/** Numbers the stretches of a shifted length that did not lie side by side before: section 3.2. */
function stretches(length: SymInt, shift: IntLike): Tensor {
  const filled = (count: IntLike, value: number): Tensor =>
    call('aten::full', [[count], value, { dtype: 'float32' }]);
  return cat([filled(length.sub(side), 0), filled(minus(side, shift), 1), filled(shift, 2)]);
}

/** Attention within windows that are shifted in every second block. [N, H, W, C] → the same shape. */
export class ShiftedWindowAttention extends Module {
  readonly relative_position_bias_table: Parameter;
  readonly relative_position_index: Buffer;
  readonly qkv: Linear;
  readonly proj: Linear;

  constructor(
    private readonly channels: number,
    private readonly heads: number,
    private readonly shifted: boolean,
    private readonly options: { dropout: number; attentionDropout: number },
  ) {
    super();
    const table = new Parameter([(2 * side - 1) ** 2, heads]);
    this.relative_position_bias_table = init.truncNormal(table, { std: 0.02 });
    const index = new Buffer([area * area], undefined, 'int64');
    this.relative_position_index = init.values(index, relativePositions());
    this.qkv = new Linear(channels, 3 * channels);
    this.proj = new Linear(channels, channels);
  }

  forward(input: Tensor): Tensor {
    const { channels } = this;
    const [height, width] = [input.size(1), input.size(2)];
    const [below, right] = [missing(height, side), missing(width, side)];
    const [rows, columns] = [height.add(below), width.add(right)];
    const [down, across] = this.shifted ? [shiftOf(rows), shiftOf(columns)] : [0, 0];
    const shifted = down !== 0 || across !== 0;
    const [m, n] = [rows.floordiv(side), columns.floordiv(side)];

    let x = padEnd(input, below, right);
    if (shifted) x = x.roll([minus(0, down), minus(0, across)], [1, 2]);
    x = x.reshape(-1, m, side, n, side, channels).permute(0, 1, 3, 2, 4, 5);
    const mask = shifted ? shiftMask(stretches(rows, down), stretches(columns, across)) : null;
    x = this.attend(x.reshape(-1, area, channels), mask);
    x = x.reshape(-1, m, n, side, side, channels).permute(0, 1, 3, 2, 4, 5);
    x = x.reshape(-1, rows, columns, channels);
    if (shifted) x = x.roll([down, across], [1, 2]);
    if (below !== 0) x = x.slice(1, 0, height);
    return right === 0 ? x : x.slice(2, 0, width);
  }

  /** `windows` [N · windows, area, C], `mask` [windows, area, area]. Equation 4. */
  private attend(windows: Tensor, mask: Tensor | null): Tensor {
    const { channels, heads, options } = this;
    const width = channels / heads;
    const qkv = this.qkv.forward(windows).reshape(-1, area, 3, heads, width).permute(2, 0, 3, 1, 4);
    const [q, k, v] = [qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2)];
    let weights = q
      .mul(width ** -0.5)
      .matmul(k.transpose(-2, -1))
      .add(this.positionBias());
    if (mask !== null) {
      const byImage = weights.reshape(-1, mask.size(0), heads, area, area);
      weights = byImage.add(mask.unsqueeze(1)).reshape(-1, heads, area, area);
    }
    weights = F.dropout(weights.softmax(-1), options.attentionDropout);
    const x = weights.matmul(v).transpose(1, 2).reshape(-1, area, channels);
    return F.dropout(this.proj.forward(x), options.dropout);
  }

  /** [1, heads, area, area] */
  private positionBias(): Tensor {
    const bias = this.relative_position_bias_table.indexSelect(0, this.relative_position_index);
    return bias.reshape(area, area, this.heads).permute(2, 0, 1).unsqueeze(0);
  }
}

/** −100 between pixels of a window that come from different stretches, else 0: [windows, area, area]. */
function shiftMask(rows: Tensor, columns: Tensor): Tensor {
  const region = rows.mul(3).unsqueeze(1).add(columns.unsqueeze(0));
  const windows = region
    .reshape(rows.size(0).floordiv(side), side, columns.size(0).floordiv(side), side)
    .permute(0, 2, 1, 3)
    .reshape(-1, area);
  const different = windows.unsqueeze(1).ne(windows.unsqueeze(2));
  return different.to('float32').mul(-100);
}
