/** Which subfolders of a data folder are splits, and which are classes. */
import { existsSync } from 'node:fs';
import path from 'node:path';

import { ConfigError, DataError } from '../errors.js';
import { holdsImages, scanFolder, subfolders, type ScanOptions } from './folder.js';
import type { DataSource, SplitSource } from './source.js';

/** Names of folders taken as validation data, in this order. */
const VALIDATION = ['val', 'valid', 'validation', 'test'];
const SPLITS = ['train', ...VALIDATION];

export interface LayoutOptions {
  /** Folder of the training images. Default `train`; where that does not exist, the data folder itself. */
  trainSplit?: string | undefined;
  /** Folder of the validation images. `auto` (default): the first of val, valid, validation, test. null: none. */
  valSplit?: string | null | undefined;
  signal?: AbortSignal | undefined;
}

export interface FolderSource extends DataSource {
  train: SplitSource;
  val: SplitSource | null;
  test: SplitSource | null;
}

/**
 * A folder is a split if it holds folders rather than images: `train/` full of locomotives stays a class.
 */
export function isSplitFolder(root: string, name: string): boolean {
  const folder = path.join(root, name);
  return existsSync(folder) && !holdsImages(folder) && subfolders(folder).length > 0;
}

/** Splits found in `root`, in the usual order; empty if `root` itself holds the classes. */
export function findSplits(root: string): string[] {
  const present = new Set(subfolders(root));
  return SPLITS.filter((name) => present.has(name) && isSplitFolder(root, name));
}

/** Recognises the layout of `root` and lists its images. Classes are those of the training folder. */
export async function openFolder(root: string, options: LayoutOptions = {}): Promise<FolderSource> {
  const location = path.resolve(root);
  const warnings: string[] = [];
  const splits = findSplits(location);
  const trainName = chooseTrain(location, splits, options.trainSplit);
  const scan: ScanOptions = { signal: options.signal, warnings };
  if (trainName === null) {
    if (options.valSplit && options.valSplit !== 'auto') {
      requireSplit(location, options.valSplit, 'data.val');
      throw new ConfigError({
        what: `data.val is '${options.valSplit}', but there is no training folder beside it`,
        where: location,
        fix: 'name the training folder with data.train, or move the training images into train/',
      });
    }
    const train = await scanFolder(location, { ...scan, name: 'train' });
    return source(location, train, null, null, warnings);
  }
  const train = await scanFolder(path.join(location, trainName), { ...scan, name: 'train' });
  const { val, test } = chooseValidation(location, splits, trainName, options.valSplit);
  const held: ScanOptions = { ...scan, classes: train.classes, allowEmpty: true };
  const open = (folder: string | null, name: string): Promise<SplitSource> | null =>
    folder === null ? null : scanFolder(path.join(location, folder), { ...held, name });
  return source(location, train, await open(val, 'val'), await open(test, 'test'), warnings);
}

function source(
  location: string,
  train: SplitSource,
  val: SplitSource | null,
  test: SplitSource | null,
  warnings: string[],
): FolderSource {
  const splits = [train, val, test].filter((split) => split !== null);
  return { kind: 'folder', location, classes: [...train.classes], splits, warnings, train, val, test };
}

/** Name of the training folder, or null: the root itself. */
function chooseTrain(root: string, splits: string[], asked: string | undefined): string | null {
  if (asked === '.') return null;
  if (asked !== undefined && asked !== 'train') {
    requireSplit(root, asked, 'data.train');
    return asked;
  }
  if (splits.includes('train')) return 'train';
  const names = subfolders(root);
  if (splits.length > 0 && names.every((name) => splits.includes(name))) {
    throw new DataError({
      what: `there is ${splits.map((name) => `${name}/`).join(' and ')}, but no train/`,
      where: root,
      fix: 'name the folder of the training images with data.train (`.` if the folders are the classes)',
    });
  }
  return null;
}

function chooseValidation(
  root: string,
  splits: string[],
  trainName: string,
  asked: string | null | undefined,
): { val: string | null; test: string | null } {
  const test = splits.includes('test') && trainName !== 'test' ? 'test' : null;
  if (asked === null) return { val: null, test };
  if (asked !== undefined && asked !== 'auto') {
    requireSplit(root, asked, 'data.val');
    return { val: asked, test: test === asked ? null : test };
  }
  const val = VALIDATION.find((name) => splits.includes(name) && name !== trainName) ?? null;
  return { val, test: val === 'test' ? null : test };
}

function requireSplit(root: string, name: string, key: string): void {
  if (existsSync(path.join(root, name))) return;
  const names = subfolders(root);
  throw new ConfigError({
    what: `${key} is '${name}', but there is no such folder`,
    where: root,
    fix:
      names.length > 0 ? `folders there: ${names.slice(0, 20).join(', ')}` : 'the folder has no subfolders',
  });
}
