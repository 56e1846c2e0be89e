/** One split for evaluation alone: the labels are the model's. */
import path from 'node:path';

import { ConfigError, DataError } from '../errors.js';
import { cacheDir } from '../io/cache_dir.js';
import {
  fingerprint,
  packOptions,
  resolveChannels,
  resolveKind,
  resolveSettings,
  type DataConfig,
  type PrepareOptions,
} from './data_config.js';
import { quote, scanFolder, subfolders } from './folder.js';
import { findSplits } from './folder_layout.js';
import { openIdx } from './idx.js';
import { packSplit } from './pack.js';
import type { BrokenFile } from './pack_cache.js';
import { prepareShapes } from './shapes.js';
import type { DataSource, SplitSource } from './source.js';
import { brokenPaths, describeSplit, type Split } from './split.js';

export interface EvaluationConfig extends Omit<DataConfig, 'trainSplit' | 'valSplit' | 'valFraction'> {
  /** The model's labels, in its order. */
  classes: readonly string[];
  /** Folder inside `path` (for IDX `train` or `test`). Default: the validation folder, else `path` itself. */
  split?: string;
}

export interface EvaluationSplit {
  split: Split;
  channels: 1 | 3;
  broken: BrokenFile[];
  warnings: string[];
  fingerprint: string;
}

/**
 * One split for evaluation alone, with labels numbered as the model's, whatever classes the folder lacks.
 *
 * @throws DataError if the data has classes that the model does not know.
 */
export async function prepareSplit(
  config: EvaluationConfig,
  options: PrepareOptions = {},
): Promise<EvaluationSplit> {
  const warnings: string[] = [];
  const { kind, split } = await openEvaluation(config, options, warnings);
  const source: DataSource = {
    kind,
    location: split.location,
    classes: [...split.classes],
    splits: [split],
    warnings,
  };
  const channels = resolveChannels(config, source);
  const cache = cacheDir(config.cache);
  const settings = await resolveSettings([split], config, channels, cache, options);
  const pack = await packSplit(split, settings, packOptions(config, cache, options));
  const described = (await describeSplit(pack, split.name, split.classes.length)).split;
  return {
    split: described,
    channels,
    broken: brokenPaths(pack),
    warnings,
    fingerprint: fingerprint(source, settings, described, null),
  };
}

async function openEvaluation(
  config: EvaluationConfig,
  options: PrepareOptions,
  warnings: string[],
): Promise<{ kind: DataSource['kind']; split: SplitSource }> {
  const kind = await resolveKind(config);
  if (kind === 'idx') return { kind, split: await openIdxSplit(config) };
  let root = config.path ?? null;
  if (kind === 'shapes') {
    root = (await prepareShapes({ out: root ?? undefined, cache: config.cache, signal: options.signal }))
      .folder;
  }
  if (root === null) throw new ConfigError({ what: 'no data was named', fix: 'give a folder of images' });
  const name = chooseFolder(root, config.split);
  const split = await scanFolder(path.join(root, name), {
    classes: config.classes,
    name: name === '.' ? path.basename(path.resolve(root)) : name,
    allowEmpty: true,
    signal: options.signal,
    warnings,
  });
  return { kind, split };
}

/** The folder asked for, else the first of val, valid, validation, test, else the data folder itself. */
function chooseFolder(root: string, asked: string | undefined): string {
  if (asked !== undefined) {
    if (asked === '.' || subfolders(root).includes(asked)) return asked;
    throw new ConfigError({
      what: `there is no folder '${asked}' in the data`,
      where: root,
      fix: `folders there: ${quote(subfolders(root))}`,
    });
  }
  const splits = findSplits(root);
  return splits.find((name) => name !== 'train') ?? splits[0] ?? '.';
}

async function openIdxSplit(config: EvaluationConfig): Promise<SplitSource> {
  const source = await openIdx(config.path ?? null);
  const asked = config.split;
  if (asked !== undefined && asked !== 'train' && asked !== 'test') {
    throw new ConfigError({ what: `IDX files have no split '${asked}'`, fix: 'use train or test' });
  }
  const split = asked === 'train' ? source.train : (source.test ?? (asked === 'test' ? null : source.train));
  if (!split) throw new DataError({ what: 'there are no IDX test files', where: source.location });
  const order = source.classes.map((name) => config.classes.indexOf(name));
  if (order.includes(-1)) {
    throw new DataError({
      what: `the data has classes that the model does not know: ${quote(source.classes.filter((_, i) => order[i] === -1))}`,
      where: source.location,
      fix: `the model's classes are ${quote(config.classes)}`,
    });
  }
  const labels = split.labels.map((label) => order[label]!);
  return {
    name: split.name,
    location: split.location,
    identity: split.identity,
    contentId: split.contentId,
    classes: config.classes,
    labels,
    id: (i) => split.id(i),
    sampleSizes: () => split.sampleSizes(),
    read: (i, settings) => split.read(i, settings),
  };
}
