/**
 * From the losses of a sweep of learning rates (Smith, "Cyclical learning rates for training neural networks", 2017,
 * section 3.3) to a rate to train with. Smoothing, the place where a sweep ends, and the two suggestions are those of
 * fastai's lr_find.
 */

export interface SweepPoint {
  lr: number;
  /** Of the step at this rate. */
  loss: number;
  /** Moving average of the losses so far, with its bias corrected. */
  smoothed: number;
}

export interface LearningRateSuggestions {
  /** From the middle of the longest descent: where the loss falls steadily. */
  valley: number;
  /** Where the loss falls fastest. */
  steep: number;
}

/** Share of the average that stays, at each step. */
const BETA = 0.98;
/** A sweep has diverged once the average is this many times the least so far. */
const DIVERGED = 4;
/** Points at the end, where the loss shoots up, that no suggestion is taken from. */
const SKIP_END = 5;
/** Fewer tell nothing. */
const LEAST_POINTS = 4;

/** Collects the losses of a sweep, in order. */
export class Sweep {
  readonly points: SweepPoint[] = [];
  private average = 0;
  private least = Infinity;
  /** The losses have exploded; later points are not taken. */
  diverged = false;

  /** @param stopWhenDiverged default true; false: the sweep goes on for as long as losses are finite. */
  constructor(private readonly stopWhenDiverged = true) {}

  add(lr: number, loss: number): void {
    if (this.diverged) return;
    this.average = BETA * this.average + (1 - BETA) * loss;
    const smoothed = this.average / (1 - BETA ** (this.points.length + 1));
    if (!Number.isFinite(smoothed)) {
      this.diverged = true;
      return;
    }
    this.points.push({ lr, loss, smoothed });
    this.least = Math.min(this.least, smoothed);
    this.diverged = this.stopWhenDiverged && smoothed > DIVERGED * this.least;
  }
}

/**
 * @param points of a sweep.
 * @param steps that were planned: the first tenth of them, where the average still moves in, is left out.
 * @returns null if there are too few points to tell.
 */
export function suggestLearningRates(
  points: readonly SweepPoint[],
  steps: number,
): LearningRateSuggestions | null {
  const used = points.slice(Math.floor(steps / 10), -SKIP_END);
  if (used.length < LEAST_POINTS) return null;
  return { valley: valley(used), steep: steep(used) };
}

/** The longest subsequence of falling losses; half-way through its middle third. */
function valley(points: readonly SweepPoint[]): number {
  const losses = points.map(({ smoothed }) => smoothed);
  const lengths = losses.map(() => 1);
  let end = 0;
  let start = 0;
  for (let i = 1; i < losses.length; i++) {
    for (let j = 0; j < i; j++) {
      if (losses[i]! < losses[j]! && lengths[i]! < lengths[j]! + 1) lengths[i] = lengths[j]! + 1;
    }
    if (lengths[end]! < lengths[i]!) {
      end = i;
      start = end - lengths[end]!;
    }
  }
  const third = (end - start) / 3;
  const index = start + Math.floor(third) + Math.floor(third / 2);
  return points[Math.max(0, index)]!.lr;
}

function steep(points: readonly SweepPoint[]): number {
  let best = 0;
  let least = Infinity;
  for (let i = 0; i + 1 < points.length; i++) {
    const [a, b] = [points[i]!, points[i + 1]!];
    const slope = (b.smoothed - a.smoothed) / (Math.log(b.lr) - Math.log(a.lr));
    if (slope < least) [least, best] = [slope, i];
  }
  return points[best]!.lr;
}
