/** The data of a golden file of kind `losses`: scores and targets by formulas over the fill. */
import { MalformedGolden, type Fields } from './fields.js';
import { fillUnit } from './fill.js';

const number = String.raw`(\d+(?:\.\d+)?)`;
const ordinal = String.raw`(\d+)(?:\+(\d+))?`;

/** `a v(j, t) - b`, in double, stored as float32. */
export interface Scores {
  shape: number[];
  values: Float32Array;
}

export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export class LossData {
  readonly logits: Scores;
  /** Indices of classes, one per row of the logits. */
  readonly targets: number[];
  readonly maskLogits: Scores;
  readonly mask: number[];
  /** The mask with some pixels ignored. */
  readonly ignoredMask: number[];
  readonly ignoreIndex: number;

  constructor(
    private readonly fields: Fields,
    /** Added to every ordinal of the file. */
    readonly plus: number,
  ) {
    fields.note('note');
    this.logits = this.shaped('logits');
    this.targets = this.classes('targets', this.logits.shape[0]!);
    this.maskLogits = this.shaped('mask_logits');
    const [images, , ...size] = this.maskLogits.shape;
    this.mask = this.classes('mask', images! * elements(size));
    const pattern = new RegExp(String.raw`^v\([ij], ?${ordinal}\) < ${number} -> (\d+)$`);
    const [, t, added, share, value] = this.match(fields, 'mask_ignore', pattern);
    const offset = this.offset('mask_ignore', t!, added);
    this.ignoreIndex = Number(value);
    this.ignoredMask = this.mask.map((c, j) => (fillUnit(j, offset) < Number(share) ? this.ignoreIndex : c));
  }

  /** `count` values v of an ordinal that a definition names without the file's addition. */
  units(count: number, t: number): number[] {
    return Array.from({ length: count }, (_, j) => fillUnit(j, t + this.plus));
  }

  /** `6 v(j, 8001) - 3` as scores of a shape. */
  scores(shape: number[], scale: number, t: number, minus: number): Scores {
    const values = this.units(elements(shape), t).map((v) => scale * v - minus);
    return { shape, values: Float32Array.from(values) };
  }

  match(fields: Fields, key: string, pattern: RegExp): RegExpExecArray {
    const match = pattern.exec(fields.text(key));
    if (match === null) throw fields.wrong(key, `a formula such as ${pattern.source}`);
    return match;
  }

  /** `[16,10], 6 v(j,8001+0) - 3` */
  private shaped(key: string): Scores {
    const pattern = new RegExp(String.raw`^\[([\d, ]+)\], ${number} v\(j, ?${ordinal}\) - ${number}$`);
    const [, shape, scale, t, added, minus] = this.match(this.fields, key, pattern);
    const sizes = shape!.split(',').map(Number);
    return this.scores(sizes, Number(scale), this.offset(key, t!, added) - this.plus, Number(minus));
  }

  /** `floor(10 v(i,8003+0))` */
  private classes(key: string, count: number): number[] {
    const pattern = new RegExp(String.raw`^floor\(${number} v\([ij], ?${ordinal}\)\)$`);
    const [, classes, t, added] = this.match(this.fields, key, pattern);
    const offset = this.offset(key, t!, added);
    return Array.from({ length: count }, (_, i) => Math.floor(Number(classes) * fillUnit(i, offset)));
  }

  /** The ordinal with what is added; the formula must agree with the file's `ordinals_plus`. */
  private offset(key: string, t: string, added: string | undefined): number {
    if (added !== undefined && Number(added) !== this.plus) {
      throw new MalformedGolden(`${this.fields.where}.${key}`, `adds ${added}, the file ${this.plus}`);
    }
    return Number(t) + this.plus;
  }
}
