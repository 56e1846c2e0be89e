/** What is wrong with a config: all of it at once, each with its place. */
import { ConfigError } from '../errors.js';
import { showLocation, type Location } from './located.js';

export interface Problem {
  where: Location;
  /** `train.batch_size`; empty for a file that is no YAML. */
  key: string;
  message: string;
  /** `did you mean "batch_size"?` */
  hint?: string;
}

function showProblem(problem: Problem): string {
  return (problem.key === '' ? '' : `${problem.key}: `) + problem.message;
}

/** As they stand in the files; files in the order of their first problem. */
function inOrder(problems: Problem[]): Problem[] {
  const files = [...new Set(problems.map((p) => p.where.file))];
  const rank = (p: Problem): number[] => [
    files.indexOf(p.where.file),
    p.where.line ?? 0,
    p.where.column ?? 0,
  ];
  return [...problems].sort((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    return x[0]! - y[0]! || x[1]! - y[1]! || x[2]! - y[2]!;
  });
}

/** One error for all problems; `problems` holds them for `--json` and editors. */
export class ConfigProblemsError extends ConfigError {
  readonly problems: Problem[];

  constructor(found: Problem[]) {
    const problems = inOrder(found);
    const [first] = problems;
    super(
      problems.length === 1 && first
        ? {
            what: showProblem(first),
            where: showLocation(first.where),
            fix: first.hint ?? '`fornax config schema` and docs/config.md list every key with its values',
          }
        : {
            what: `${problems.length} problems in the config:${problems
              .map((p) => `\n  ${showLocation(p.where)}  ${showProblem(p)}${p.hint ? ` (${p.hint})` : ''}`)
              .join('')}`,
            fix: '`fornax config schema` and docs/config.md list every key with its values',
          },
    );
    this.name = 'ConfigError';
    Object.defineProperty(this, 'code', { value: 'FORNAX_CONFIG', enumerable: true });
    this.problems = problems;
  }
}
