/**
 * The rules in a golden file's `tolerance`: clauses between semicolons, each `<subject> … max(1e-3, 5 dev) …` or with
 * a plain number, which may be a percentage.
 */
import { MalformedGolden } from './fields.js';

const number = String.raw`(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)`;
const ofDeviation = new RegExp(String.raw`max\(${number}, ${number} dev\)`);
const fixed = new RegExp(String.raw`${number}( %)?`);

export interface Rule {
  /** The tolerance without regard to rounding. */
  floor: number;
  /** Multiples of `dev` that are allowed at least. */
  deviations: number;
}

export class Tolerances {
  private readonly clauses: string[];

  constructor(
    text: string,
    private readonly where: string,
  ) {
    this.clauses = text.split(';').map((clause) => clause.trim());
  }

  /** max(floor, k·dev) by the clause that begins with `subject`. */
  of(subject: string, dev: number): number {
    const { floor, deviations } = this.rule(subject);
    return Math.max(floor, deviations * dev);
  }

  /** The clause that begins with `subject`. @throws MalformedGolden where the file states no such rule */
  rule(subject: string): Rule {
    const clause = this.clauses.find((text) => text.startsWith(subject));
    const rest = clause?.slice(subject.length);
    if (rest === undefined || !/^[\s:]/.test(rest)) {
      throw new MalformedGolden(this.where, `states no tolerance for '${subject}'`);
    }
    const relative = ofDeviation.exec(rest);
    if (relative) return { floor: Number(relative[1]), deviations: Number(relative[2]) };
    const absolute = fixed.exec(rest);
    if (absolute) return { floor: Number(absolute[1]) / (absolute[2] ? 100 : 1), deviations: 0 };
    throw new MalformedGolden(this.where, `the rule for '${subject}' is not understood: ${clause}`);
  }
}
