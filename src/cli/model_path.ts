/** Which model file is meant by an argument, or by none. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError, WeightsError } from '../errors.js';
import { publishedWeights } from '../models/published_weights.js';
import { nearest } from '../nearest.js';
import { runPaths } from '../train/run_folder.js';

/** The model of a run folder, or the file itself. `runs/<name>` may be shortened to the name. */
export function modelPath(given: string, runs = 'runs'): string {
  const path = !existsSync(given) && existsSync(join(runs, given)) ? join(runs, given) : given;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    const hint = nearest(given, runNames(runs));
    throw new WeightsError({
      what: 'There is no such model file or run folder',
      where: given,
      fix: hint
        ? `did you mean "${join(runs, hint)}"?`
        : 'give a .safetensors file that Fornax wrote, or the folder of a run',
    });
  }
  if (!stat.isDirectory()) return path;
  const model = runPaths(path).model;
  if (existsSync(model)) return model;
  throw new WeightsError({
    what: 'The folder holds no model.safetensors',
    where: path,
    fix: existsSync(runPaths(path).checkpoints)
      ? 'the run is not finished: `fornax train … --resume` goes on with it'
      : 'give a model file, or the folder of a finished run',
  });
}

/** The weights of a run folder or of a checkpoint's folder; anything else is as given: a file, a name or an address. */
export function weightsPath(given: string): string {
  if (!statSync(given, { throwIfNoEntry: false })?.isDirectory()) return given;
  // A folder that happens to be called as published weights are does not hide them; `./default` is the folder.
  if (given === 'default' || publishedWeights().some(({ name }) => name === given)) return given;
  return modelPath(given);
}

function runNames(runs: string): string[] {
  try {
    return readdirSync(runs, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
      .map((entry) => entry.name);
  } catch {
    // No folder of runs yet: no names.
    return [];
  }
}

/** The model written last below `runs`. @throws UsageError if there is none */
export function newestModel(runs = 'runs'): string {
  const found = runNames(runs)
    .map((name) => runPaths(join(runs, name)).model)
    .filter((model) => existsSync(model))
    .map((model) => ({ model, time: statSync(model).mtimeMs }))
    .sort((a, b) => b.time - a.time);
  if (found[0]) return found[0].model;
  throw new UsageError({
    what: 'No model was named, and there is none in runs/',
    fix: 'name one with --model, or train one first (`fornax quickstart`)',
  });
}
