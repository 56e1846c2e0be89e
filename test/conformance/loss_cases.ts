/** What each case of a golden file of kind `losses` computes; every figure is read from its definition. */
import type { Graph } from '#fornax/graph/format.js';
import * as loss from '#fornax/losses/index.js';
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Fields } from './fields.js';
import { Unsupported } from './kind.js';
import { elements, type LossData, type Scores } from './loss_data.js';

export interface LossCase {
  logits: Float32Array;
  shape: number[];
  /** Of the batch. */
  fields: Record<string, NativeTensor>;
  graph: Graph;
}

type Make = (definition: Definition) => LossCase;

/** The text of a case, in which figures are found by what stands before and after them. */
class Definition {
  constructor(
    private readonly fields: Fields,
    private readonly text: string,
  ) {}

  /** The numbers where `pattern` has `#`. */
  numbers(pattern: string): number[] {
    const source = pattern.replaceAll('#', String.raw`(\d+(?:\.\d+)?(?:e[-+]?\d+)?)`);
    const match = new RegExp(source).exec(this.text);
    if (match === null) throw this.fields.wrong('definition', `a text with '${pattern}'`);
    return match.slice(1).map(Number);
  }

  number(pattern: string): number {
    return this.numbers(pattern)[0]!;
  }

  /** The text must say this, word for word. */
  says(pattern: string): void {
    this.numbers(pattern);
  }
}

function longs(values: readonly number[], shape: number[]): NativeTensor {
  return loadAddon().Tensor.fromTypedArray(BigInt64Array.from(values, BigInt), shape);
}

function floats(values: readonly number[], shape: number[]): NativeTensor {
  return loadAddon().Tensor.fromTypedArray(Float32Array.from(values), shape);
}

export class LossCases {
  constructor(
    private readonly data: LossData,
    private readonly cases: Fields,
  ) {}

  /** @throws Unsupported for a name that is not known, MalformedGolden for a definition that is not understood */
  of(name: string, fields: Fields): LossCase {
    const make = Object.hasOwn(this.makers, name) ? this.makers[name]! : null;
    const definition = this.read(fields);
    if (make === null) throw new Unsupported(`there is no loss called '${name}'`);
    return make(definition);
  }

  private definition(name: string): Definition {
    return this.read(this.cases.child(name));
  }

  /** Ordinals may be written with what the file adds to them, as in its data. */
  private read(fields: Fields): Definition {
    return new Definition(fields, fields.text('definition').replaceAll(`+${this.data.plus})`, ')'));
  }

  private labels(graph: Graph, targets: readonly number[] = this.data.targets): LossCase {
    const { shape, values } = this.data.logits;
    return { logits: values, shape, fields: { label: longs(targets, [targets.length]) }, graph };
  }

  /** Targets of the shape of the logits. */
  private dense(field: string, target: readonly number[], graph: Graph): LossCase {
    const { shape, values } = this.data.logits;
    return { logits: values, shape, fields: { [field]: floats(target, shape) }, graph };
  }

  private pixels(graph: Graph, mask: readonly number[], logits: Scores = this.data.maskLogits): LossCase {
    const { shape, values } = logits;
    const [images, , ...size] = shape;
    return { logits: values, shape, fields: { mask: longs(mask, [images!, ...size]) }, graph };
  }

  /** w: one per class. */
  private classWeights(): number[] {
    const text = this.definition('cross_entropy_weight');
    const [base, slope, t] = text.numbers(String.raw`class weights w = # \+ # v\(c, #\), weighted mean`);
    return this.data.units(this.data.logits.shape[1]!, t!).map((v) => base! + slope! * v);
  }

  private softTargets(): number[] {
    const t = this.definition('cross_entropy_soft').number(
      String.raw`^targets v\(j, #\) in \[0,1\) normalised per row`,
    );
    const classes = this.data.logits.shape[1]!;
    const values = this.data.units(elements(this.data.logits.shape), t);
    const sums = Array.from({ length: this.data.logits.shape[0]! }, (_, i) =>
      values.slice(i * classes, (i + 1) * classes).reduce((sum, v) => sum + v, 0),
    );
    return values.map((v, j) => v / sums[Math.floor(j / classes)]!);
  }

  private multiHot(): number[] {
    const [t, above] = this.definition('bce_with_logits').numbers(
      String.raw`^multi-hot targets v\(j, #\) > #`,
    );
    return this.data.units(elements(this.data.logits.shape), t!).map((v) => (v > above! ? 1 : 0));
  }

  /** `smooth 0, eps 1e-7` of dice, which its variants take over. */
  private diceOptions(): { smooth: number; eps: number } {
    const [smooth, eps] = this.definition('dice').numbers(
      String.raw`^smp DiceLoss multiclass from logits \(p = softmax\), smooth #, eps #:`,
    );
    return { smooth: smooth!, eps: eps! };
  }

  private readonly makers: Record<string, Make> = {
    cross_entropy: (d) => {
      d.says('^mean over samples$');
      return this.labels(loss.crossEntropy());
    },
    cross_entropy_weight: () => this.labels(loss.crossEntropy({ classWeights: this.classWeights() })),
    cross_entropy_smoothing: (d) =>
      this.labels(loss.crossEntropy({ labelSmoothing: d.number('^label smoothing #$') })),
    cross_entropy_ignore: (d) => {
      const [step, ignoreIndex] = d.numbers('^every #(?:th|rd|nd) target is # = ignored$');
      const targets = this.data.targets.map((c, i) => (i % step! === 0 ? ignoreIndex! : c));
      return this.labels(loss.crossEntropy({ ignoreIndex: ignoreIndex! }), targets);
    },
    cross_entropy_soft: () => this.dense('label', this.softTargets(), loss.crossEntropy()),
    bce_with_logits: (d) => {
      d.says('mean over all entries$');
      return this.dense('label', this.multiHot(), loss.binaryCrossEntropy());
    },
    bce_pos_weight: (d) => {
      d.says('^pos_weight = w$');
      const graph = loss.binaryCrossEntropy({ posWeight: this.classWeights() });
      return this.dense('label', this.multiHot(), graph);
    },
    focal_sigmoid: (d) => {
      const [alpha, gamma] = d.numbers(
        '^torchvision sigmoid_focal_loss, alpha #, gamma #, mean, targets as bce_with_logits$',
      );
      const options = { mode: 'multilabel', alpha: alpha!, gamma: gamma! } as const;
      return this.dense('label', this.multiHot(), loss.focal(options));
    },
    distillation: (d) => {
      const [temperature, scale, t, minus] = d.numbers(
        String.raw`^T = #; T\^2 \* KL\(.*\), batch mean; teacher logits # v\(j,#\) - #$`,
      );
      const teacher = this.data.scores(this.data.logits.shape, scale!, t!, minus!);
      const graph = loss.distillation({ temperature: temperature! });
      return this.dense('teacher', [...teacher.values], graph);
    },
    mse: (d) => {
      d.says('^mean; targets as cross_entropy_soft$');
      return this.dense('target', this.softTargets(), loss.mse());
    },
    smooth_l1: (d) => {
      const beta = d.number('^beta #, mean; targets as cross_entropy_soft$');
      return this.dense('target', this.softTargets(), loss.smoothL1({ beta }));
    },
    pixel_cross_entropy: (d) => {
      const ignoreIndex = d.number('^ignore #$');
      return this.pixels(loss.crossEntropy({ ignoreIndex }, 'mask'), this.data.ignoredMask);
    },
    dice: () => this.pixels(loss.dice(this.diceOptions()), this.data.mask),
    dice_smooth: (d) => {
      const smooth = d.number('^as dice with smooth = #$');
      return this.pixels(loss.dice({ ...this.diceOptions(), smooth }), this.data.mask);
    },
    dice_ignore: (d) => {
      const ignoreIndex = d.number('^as dice, ignore_index #:');
      return this.pixels(loss.dice({ ...this.diceOptions(), ignoreIndex }), this.data.ignoredMask);
    },
    jaccard: (d) => {
      const [smooth, eps] = d.numbers('^smp JaccardLoss multiclass from logits, smooth #, eps #$');
      return this.pixels(loss.jaccard({ smooth: smooth!, eps: eps! }), this.data.mask);
    },
    lovasz: (d) => {
      d.says('^smp LovaszLoss multiclass, per_image False, classes present, on softmax$');
      return this.pixels(loss.lovasz(), this.data.mask);
    },
    tversky: (d) => {
      const [alpha, beta, gamma] = d.numbers('^smp TverskyLoss multiclass, alpha # beta #, gamma #$');
      return this.pixels(loss.tversky({ alpha: alpha!, beta: beta!, gamma: gamma! }), this.data.mask);
    },
    focal_multiclass: (d) => {
      const [alpha, gamma] = d.numbers('^smp FocalLoss multiclass, alpha #, gamma #:');
      return this.pixels(loss.focal({ alpha: alpha!, gamma: gamma! }, 'mask'), this.data.mask);
    },
    binary_dice: (d) => {
      const [n, c, h, w, scale, t, minus, value] = d.numbers(
        String.raw`^smp DiceLoss binary from logits; logits a tensor of its own \[#,#,#,#\], # v\(j, #\) - #; target \(mask == #\)$`,
      );
      const logits = this.data.scores([n!, c!, h!, w!], scale!, t!, minus!);
      const mask = this.data.mask.map((pixel) => (pixel === value ? 1 : 0));
      return this.pixels(loss.dice({ mode: 'binary', ...this.diceOptions() }), mask, logits);
    },
  };
}
