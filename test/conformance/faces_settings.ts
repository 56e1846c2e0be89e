/** What the prose of a file of kind `faces` states: how inputs are made, matched and compared. */
import { type Fields, MalformedGolden } from './fields.js';

/** A number as the notes write it. */
const number = String.raw`(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)`;

/** Finds numbers in a text of the file; each `#` of the pattern stands for one. */
class Prose {
  constructor(
    private readonly text: string,
    private readonly where: string,
  ) {}

  numbers(pattern: string, nth = 0): number[] {
    const found = [...this.text.matchAll(new RegExp(pattern.replaceAll('#', number), 'g'))][nth];
    if (!found) throw new MalformedGolden(this.where, `does not say '${pattern}'`);
    return found.slice(1).map(Number);
  }

  first(pattern: string, nth = 0): number {
    return this.numbers(pattern, nth)[0]!;
  }

  has(pattern: string): boolean {
    return new RegExp(pattern.replaceAll('#', number)).test(this.text);
  }
}

export interface FaceTolerances {
  raw: number;
  rawMoments: number;
  sums: number;
  losses: number;
  gradientNorms: number;
  pixels: number;
  score: number;
  /** Share by which counts may differ. */
  counts: number;
  /** From which score on the count is exact. */
  confident: number;
}

export interface MultiBoxSettings {
  threshold: number;
  negativesPerPositive: number;
}

export interface FaceSettings {
  tolerances: FaceTolerances;
  /** Ordinal of the fill of inputs. */
  inputT: number;
  /** Factor on the inputs of a model. */
  inputGain: (model: string) => number;
  /** For models without published weights: fusion weights are base + slope·u. */
  fusion: (model: string) => { base: number; slope: number };
  targets: {
    /** Places of the five landmarks in a face's box, as shares of width and height. */
    points: [number, number][];
    /** Of each `period` faces the one at `missing` has no landmarks. */
    period: number;
    missing: number;
    threshold: number;
    variances: [number, number];
    /** Height and width for which anchors are made. */
    size: [number, number];
  };
  multiBox: MultiBoxSettings & { weight: number };
  /** Of the `own_criterion`. */
  ownMultiBox: MultiBoxSettings & { wing: { width: number; curvature: number } };
  pipeline: {
    mean: [number, number, number];
    confidence: number;
    topK: number;
    nms: number;
    keepTopK: number;
  };
}

export function faceSettings(golden: Fields): FaceSettings {
  const notes = golden.child('notes');
  const prose = (fields: Fields, key: string): Prose => new Prose(fields.text(key), `${fields.where}.${key}`);
  const [raw, targets, losses, pipeline] = ['raw', 'targets', 'losses', 'pipeline'].map((key) =>
    prose(notes, key),
  ) as [Prose, Prose, Prose, Prose];
  const own = new Map(
    notes
      .keys()
      .filter((key) => !['raw', 'targets', 'losses', 'pipeline'].includes(key))
      .map((key) => [key, prose(notes, key)]),
  );
  const multiBox = (nth: number): MultiBoxSettings => {
    const call = String.raw`MultiBoxLoss\(2, #, True, 0, True, #, #, False\)`;
    const [threshold, negativesPerPositive] = losses.numbers(call, nth);
    return { threshold: threshold!, negativesPerPositive: negativesPerPositive! };
  };
  return {
    tolerances: faceTolerances(prose(golden, 'tolerance')),
    inputT: raw.first('t=#'),
    inputGain: (model) =>
      raw.has(String.raw`\*# for ${model}`)
        ? raw.first(String.raw`\*# for ${model}`)
        : raw.first(String.raw`t=\d+\)\*#`),
    fusion: (model) => {
      const note = own.get(model);
      if (!note) throw new MalformedGolden(notes.where, `does not say how '${model}' is filled`);
      const [base, slope] = note.numbers(String.raw`fusion weight .* set to # \+ # u\(j,t\)`);
      return { base: base!, slope: slope! };
    },
    targets: targetSettings(targets),
    multiBox: {
      ...multiBox(0),
      weight: losses.first(String.raw`total = #\*loss_l \+ loss_c \+ loss_landm`),
    },
    ownMultiBox: {
      ...multiBox(1),
      wing: {
        width: losses.first('Wing loss w=#, eps=#'),
        curvature: losses.numbers('Wing loss w=#, eps=#')[1]!,
      },
    },
    pipeline: {
      mean: pipeline.numbers(String.raw`minus \(#,#,#\) in BGR order`) as [number, number, number],
      confidence: pipeline.first('score > #'),
      topK: pipeline.first('first #, py_cpu_nms'),
      nms: pipeline.first('py_cpu_nms at #'),
      keepTopK: pipeline.first(String.raw`suppress above the threshold\), first #`),
    },
  };
}

function targetSettings(prose: Prose): FaceSettings['targets'] {
  const pairs = String.raw`\(#, #\)`;
  const places = prose.numbers(String.raw`\(fx,fy\) = \[${Array(5).fill(pairs).join(', ')}\]`);
  const [period, missing] = prose.numbers('except i mod # = #');
  return {
    points: [0, 2, 4, 6, 8].map((i) => [places[i]!, places[i + 1]!]),
    period: period!,
    missing: missing!,
    threshold: prose.first('match threshold #'),
    variances: prose.numbers('variances #, #') as [number, number],
    size: prose.numbers('priors for #x#') as [number, number],
  };
}

function faceTolerances(prose: Prose): FaceTolerances {
  const [pixels, score] = prose.numbers('best within # pixel and # of score');
  return {
    raw: prose.first('raw outputs absolute #'),
    rawMoments: prose.first('means and deviations #'),
    sums: prose.first('sums relative #'),
    losses: prose.first('losses relative #'),
    gradientNorms: prose.first('gradient norms #'),
    pixels: pixels!,
    score: score!,
    counts: prose.first('counts within # %') / 100,
    confident: prose.first('count at score >= # exact'),
  };
}
