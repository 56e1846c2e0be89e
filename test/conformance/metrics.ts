/** Kind `metrics`: figures of a classifier and of a segmentation on generated logits. */
import type { NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import type { Comparison } from './comparison.js';
import { type Fields, MalformedGolden } from './fields.js';
import { fillUnit } from './fill.js';
import { type GoldenCase, Unsupported } from './kind.js';

export function metrics(golden: Fields): GoldenCase[] {
  golden.note('source');
  const text = golden.text('tolerance');
  const tolerance = Number(/^([\d.]+(?:e-?\d+)?) absolute; confusion matrices exact$/.exec(text)?.[1]);
  if (!(tolerance > 0)) throw golden.wrong('tolerance', "'<number> absolute; confusion matrices exact'");
  const known: Record<string, (fields: Fields, to: Comparison, tolerance: number) => Promise<void>> = {
    classification: compareClassification,
    segmentation: compareSegmentation,
  };
  return golden
    .keys()
    .filter((key) => !['kind', 'source', 'tolerance'].includes(key))
    .map((name) => {
      const fields = golden.child(name);
      const compare = known[name.replace(/_\w+$/, '')];
      return {
        name,
        fields,
        run: (comparison) =>
          compare
            ? compare(fields, comparison, tolerance)
            : Promise.reject(new Unsupported('there are no metrics of this sort')),
      };
    });
}

/** `logits_range` over `logits_t`, as float32. */
function readLogits(fields: Fields, count: number): Float32Array {
  const t = fields.integer('logits_t');
  const [low, high, ...more] = fields.numbers('logits_range');
  if (high === undefined || more.length > 0) throw fields.wrong('logits_range', '[low, high]');
  return Float32Array.from({ length: count }, (_, j) => low! + (high - low!) * fillUnit(j, t));
}

/** `floor(v(j,5003)*7)`. */
function readTarget(fields: Fields, count: number, classes: number): BigInt64Array {
  const rule = /^floor\(v\(j, ?(\d+)\) ?\* ?(\d+)\)$/.exec(fields.text('target'));
  if (!rule || Number(rule[2]) > classes)
    throw fields.wrong('target', `a rule like floor(v(j,1)*${classes})`);
  return BigInt64Array.from({ length: count }, (_, j) =>
    BigInt(Math.floor(fillUnit(j, Number(rule[1])) * Number(rule[2]))),
  );
}

/** Adds `boost` to the logit of the target; `index` says where that lies for target j. */
function applyBoost(
  fields: Fields,
  logits: Float32Array,
  target: BigInt64Array,
  index: (j: number, target: number) => number,
): void {
  if (!fields.has('boost')) return;
  const rule = /^logits\[[^\]]*target[^=]*\] \+= ([\d.]+)$/.exec(fields.text('boost'));
  if (!rule) throw fields.wrong('boost', "a rule like 'logits[i, target[i]] += 1.2'");
  const boost = Math.fround(Number(rule[1]));
  target.forEach((value, j) => (logits[index(j, Number(value))]! += boost));
}

async function withTensors<T>(
  make: () => NativeTensor[],
  use: (tensors: NativeTensor[]) => Promise<T>,
): Promise<T> {
  const tensors = make();
  try {
    return await use(tensors);
  } finally {
    for (const tensor of tensors) tensor.dispose();
  }
}

async function compareClassification(
  fields: Fields,
  comparison: Comparison,
  tolerance: number,
): Promise<void> {
  const { Tensor, ClassificationMetrics } = loadAddon();
  const n = fields.integer('n', 1);
  const classes = fields.integer('classes', 2);
  const logits = readLogits(fields, n * classes);
  const target = readTarget(fields, n, classes);
  applyBoost(fields, logits, target, (j, value) => j * classes + value);
  const calibration = fields.keys().filter((key) => key.startsWith('ece_'));
  const bins = calibration.map((key) => Number(/^ece_l1_(\d+)$/.exec(key)?.[1]));
  for (const [i, key] of calibration.entries()) {
    if (!Number.isSafeInteger(bins[i])) throw fields.wrong(key, 'an l1 error: ece_l1_<bins>');
  }
  for (const binCount of bins.length === 0 ? [15] : bins) {
    const accumulator = new ClassificationMetrics({ classes, bins: binCount });
    // In unequal batches: the figures are those of all samples together.
    for (let first = 0, size = 1; first < n; first += size, size = size * 2 + 1) {
      const end = Math.min(n, first + size);
      await withTensors(
        () => [
          Tensor.fromTypedArray(logits.slice(first * classes, end * classes), [end - first, classes]),
          Tensor.fromTypedArray(target.slice(first, end), [end - first]),
        ],
        ([batch, label]) => accumulator.add(batch!, label!),
      );
    }
    const result = await accumulator.result();
    accumulator.dispose();
    const figures: Record<string, number | number[]> = {
      top1: result.top1,
      top5: result.top5,
      confusion: result.confusion,
      // torchmetrics counts a class without samples as 0.
      auroc_macro: result.auroc_per_class.reduce<number>((sum, area) => sum + (area ?? 0), 0) / classes,
      [`ece_l1_${binCount}`]: result.ece,
      cross_entropy: result.cross_entropy ?? NaN,
      precision_macro: result.macro.precision,
      recall_macro: result.macro.recall,
      f1_score_macro: result.macro.f1,
      precision_weighted: result.weighted.precision,
      recall_weighted: result.weighted.recall,
      f1_score_weighted: result.weighted.f1,
      per_class_precision: result.per_class.precision,
      per_class_recall: result.per_class.recall,
      per_class_f1: result.per_class.f1,
    };
    compareFigures(fields, figures, comparison, tolerance);
  }
}

async function compareSegmentation(fields: Fields, comparison: Comparison, tolerance: number): Promise<void> {
  const { Tensor, SegmentationMetrics } = loadAddon();
  const shape = fields.numbers('shape');
  const [batch, classes, height, width] = shape as [number, number, number, number];
  if (shape.length !== 4) throw fields.wrong('shape', '[n, classes, height, width]');
  const area = height * width;
  const logits = readLogits(fields, batch * classes * area);
  const target = readTarget(fields, batch * area, classes);
  applyBoost(
    fields,
    logits,
    target,
    (j, value) => (Math.floor(j / area) * classes + value) * area + (j % area),
  );
  const ignore = readIgnore(fields);
  if (ignore) target.forEach((_, j) => ignore.applies(j) && (target[j] = BigInt(ignore.value)));
  const accumulator = new SegmentationMetrics({
    classes,
    ...(ignore ? { ignore_index: ignore.value } : {}),
  });
  for (let i = 0; i < batch; i++) {
    await withTensors(
      () => [
        Tensor.fromTypedArray(logits.slice(i * classes * area, (i + 1) * classes * area), [
          1,
          classes,
          height,
          width,
        ]),
        Tensor.fromTypedArray(target.slice(i * area, (i + 1) * area), [1, height, width]),
      ],
      ([output, mask]) => accumulator.add(output!, mask!),
    );
  }
  const result = await accumulator.result();
  accumulator.dispose();
  // torchmetrics gives 0 for a class that does not occur.
  const figures: Record<string, number | number[]> = {
    iou_per_class: result.iou_per_class.map((value) => value ?? 0),
    miou: result.miou,
    pixel_accuracy: result.pixel_accuracy,
    dice_per_class: result.dice_per_class.map((value) => value ?? 0),
    confusion: result.confusion,
  };
  compareFigures(fields, figures, comparison, tolerance);
}

/** `v(j,5107) < 0.1 -> 255`. */
function readIgnore(fields: Fields): { applies: (j: number) => boolean; value: number } | null {
  if (!fields.has('ignore')) return null;
  const rule = /^v\(j, ?(\d+)\) < ([\d.]+) -> (\d+)$/.exec(fields.text('ignore'));
  if (!rule) throw fields.wrong('ignore', "a rule like 'v(j,1) < 0.1 -> 255'");
  const [t, limit, value] = rule.slice(1).map(Number) as [number, number, number];
  return { applies: (j) => fillUnit(j, t) < limit, value };
}

/** Every figure of ours that the file has; what it has besides is found as an unread field. */
function compareFigures(
  fields: Fields,
  figures: Record<string, number | number[]>,
  comparison: Comparison,
  tolerance: number,
): void {
  for (const [key, actual] of Object.entries(figures)) {
    if (!fields.has(key)) continue;
    if (key === 'confusion') comparison.equal(key, actual, readMatrix(fields, key).flat());
    else if (typeof actual === 'number') comparison.close(key, actual, fields.number(key), tolerance);
    else comparison.allClose(key, actual, fields.numbers(key), tolerance);
  }
}

function readMatrix(fields: Fields, key: string): number[][] {
  const rows = fields.list(key).map((row) => fields.numbersOf(row, key));
  if (rows.some((row) => row.length !== rows.length)) {
    throw new MalformedGolden(`${fields.where}.${key}`, 'must be a square matrix');
  }
  return rows;
}
