/** From a config to packed splits that the native loader can read. */
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
import { openFolder } from './folder_layout.js';
import { openIdx } from './idx.js';
import { packSplit } from './pack.js';
import type { BrokenFile, Pack } from './pack_cache.js';
import { prepareShapes } from './shapes.js';
import type { DataSource, PixelSettings, SplitSource } from './source.js';
import { brokenPaths, describeSplit, limitSplit, subset, type Described, type Split } from './split.js';
import { stratifiedSplit } from './stratified.js';

export type { DataConfig, PrepareOptions, SourceKind } from './data_config.js';
export type { Split } from './split.js';

export interface Dataset {
  classes: string[];
  channels: 1 | 3;
  train: Split;
  val: Split | null;
  test: Split | null;
  /** How pixels are kept. */
  pack: { mode: 'original' | 'resized'; shorterSide: number | null; bytes: number };
  /** Files that could not be decoded and were left out. Paths are whole. */
  broken: BrokenFile[];
  warnings: string[];
  /** SHA-256 of everything that decides which samples training sees: a resume with another one is refused. */
  fingerprint: string;
}

/** An opened source and what its splits are for. */
export interface OpenedData {
  source: DataSource;
  train: SplitSource;
  val: SplitSource | null;
  test: SplitSource | null;
}

/**
 * Finds the images, packs them if the cache holds no current pack, and splits them.
 *
 * @throws ConfigError for settings that contradict the data, DataError for data that cannot be used.
 */
export async function prepareDataset(config: DataConfig, options: PrepareOptions = {}): Promise<Dataset> {
  const { source, train, val, test } = await openData(config, options);
  const channels = resolveChannels(config, source);
  const cache = cacheDir(config.cache);
  const settings = await resolveSettings(source.splits, config, channels, cache, options);
  const packs = new Map<SplitSource, Pack>();
  for (const split of source.splits) {
    packs.set(split, await packSplit(split, settings, packOptions(config, cache, options)));
  }
  const whole = await describeSplit(packs.get(train)!, 'train', source.classes.length);
  const held = val ? null : holdOut(whole, config);
  let trainSplit = held ? held.train : whole.split;
  if (config.limit) trainSplit = limitSplit(trainSplit, whole.labels, config.limit, config.seed ?? 0);
  const describe = async (split: SplitSource | null, name: string): Promise<Split | null> =>
    split ? (await describeSplit(packs.get(split)!, name, source.classes.length)).split : null;

  const all = [...packs.values()];
  return {
    classes: [...source.classes],
    channels,
    train: trainSplit,
    val: held ? held.val : await describe(val, 'val'),
    test: await describe(test, 'test'),
    pack: describeSettings(settings, all),
    broken: all.flatMap(brokenPaths),
    warnings: source.warnings,
    fingerprint: fingerprint(source, settings, trainSplit, held?.val ?? null),
  };
}

/** Finds and lists the images; nothing is decoded or packed. */
export async function openData(
  config: Omit<DataConfig, 'resolution'>,
  options: PrepareOptions = {},
): Promise<OpenedData> {
  const kind = await resolveKind(config);
  if (kind === 'idx') {
    const source = await openIdx(config.path ?? null);
    if (config.valSplit !== undefined && config.valSplit !== null && config.valSplit !== 'auto') {
      throw new ConfigError({
        what: `data.val: '${config.valSplit}' has no meaning for IDX files`,
        fix: 'use auto or null',
      });
    }
    const asVal = config.valSplit !== null;
    return { source, train: source.train, val: asVal ? source.test : null, test: asVal ? null : source.test };
  }
  let root = config.path ?? null;
  if (kind === 'shapes') {
    root = (await prepareShapes({ out: root ?? undefined, cache: config.cache, signal: options.signal }))
      .folder;
  }
  if (root === null) {
    throw new ConfigError({
      what: 'data.path is not set',
      fix: 'set it to a folder with one subfolder of images per class, or set data.source to shapes or idx',
    });
  }
  const source = await openFolder(root, {
    trainSplit: config.trainSplit,
    valSplit: config.valSplit,
    signal: options.signal,
  });
  return { source: { ...source, kind }, train: source.train, val: source.val, test: source.test };
}

function holdOut(whole: Described, config: DataConfig): { train: Split; val: Split | null } {
  const fraction = config.valFraction ?? 0.1;
  if (!(fraction >= 0 && fraction < 1)) {
    throw new ConfigError({ what: `data.val_fraction must be at least 0 and below 1, is ${fraction}` });
  }
  if (fraction === 0) return { train: whole.split, val: null };
  const { train, held } = stratifiedSplit(whole.labels, fraction, config.seed ?? 0);
  if (held.length === 0) {
    throw new DataError({
      what: 'no class has two images, so that none can be held out for validation',
      where: whole.split.location,
      fix: 'add images, or set data.val_fraction: 0',
    });
  }
  return {
    train: subset(whole.split, 'train', whole.labels, train),
    val: subset(whole.split, 'val', whole.labels, held),
  };
}

function describeSettings(settings: PixelSettings, packs: Pack[]): Dataset['pack'] {
  return {
    mode: settings.shorterSide === null ? 'original' : 'resized',
    shorterSide: settings.shorterSide,
    bytes: packs.reduce((sum, pack) => sum + pack.manifest.pixel_bytes, 0),
  };
}
