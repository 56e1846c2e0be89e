/** Images of the data that a run was trained on, to check the export of its model with what it will see. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';

import { resolveKind, type SourceKind } from '../data/data_config.js';
import { subfolders } from '../data/folder.js';
import { findSplits } from '../data/folder_layout.js';
import { shapesFolder } from '../data/shapes.js';
import { FornaxError } from '../errors.js';
import { decodeFor } from '../eval/image_batch.js';
import type { Preprocessing } from '../model/info.js';

/** The section `data` of the run's config.yaml, as far as it says where images are. */
export interface RunData {
  source?: SourceKind | undefined;
  path?: string | null | undefined;
  train?: string | undefined;
  val?: string | null | undefined;
  cache?: string | null | undefined;
}

export interface RunImages {
  /** At most as many as were asked for, over all classes; each can be decoded. Empty: none, see `reason`. */
  files: string[];
  /** The folder they come from. */
  folder: string | null;
  /** Why there are none, to be said. */
  reason: string | null;
}

const IMAGE = /\.(jpe?g|png|webp)$/i;

/** The folder of classes that evaluation took, or the one of training, of which it held out a share. */
function evaluationFolder(root: string, { train = 'train', val = 'auto' }: RunData): string {
  const splits = findSplits(root);
  const names = val === 'auto' ? splits.filter((name) => name !== train) : val === null ? [] : [val];
  const chosen = [...names, train].find((name) => existsSync(path.join(root, name)));
  return chosen === undefined ? root : path.join(root, chosen);
}

/** The first image of each class, then the second of each, and so on. */
function* byTurns(folder: string, classes: readonly string[]): Generator<string, void> {
  const lists = classes.map((name) =>
    readdirSync(path.join(folder, name))
      .filter((file) => IMAGE.test(file) && !file.startsWith('.'))
      .sort()
      .map((file) => path.join(folder, name, file)),
  );
  const longest = Math.max(0, ...lists.map(({ length }) => length));
  for (let i = 0; i < longest; i++) {
    for (const list of lists) if (list[i] !== undefined) yield list[i]!;
  }
}

/** At most `most` of the names, evenly over all. */
function evenly(names: readonly string[], most: number): string[] {
  const count = Math.min(most, names.length);
  return Array.from({ length: count }, (_, i) => names[Math.floor((i * names.length) / count)]!);
}

/**
 * @param most images to take.
 * @returns validation images, or, if the run held out a share, images that this was drawn from. Never throws for data
 *   that has gone or cannot be read: the model can be exported all the same.
 */
export async function imagesOfRun(
  data: RunData,
  preprocessing: Preprocessing,
  most: number,
): Promise<RunImages> {
  const none = (reason: string): RunImages => ({ files: [], folder: null, reason });
  try {
    const kind = await resolveKind({ source: data.source ?? 'auto', path: data.path ?? null });
    if (kind === 'idx') return none("the run's data is no folder of images");
    const root = data.path ?? (kind === 'shapes' ? shapesFolder({ cache: data.cache }) : null);
    if (root === null) return none("the run's config names no data");
    if (!existsSync(root)) return none(`the run's data is not at ${root} any more`);
    const folder = evaluationFolder(root, data);
    const files: string[] = [];
    let tries = 4 * most;
    for (const file of byTurns(folder, evenly(subfolders(folder), most))) {
      if (files.length === most || tries-- === 0) break;
      if (await canDecode(preprocessing, file)) files.push(file);
    }
    return files.length > 0
      ? { files, folder, reason: null }
      : none(`${folder} holds no images that can be read`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (!(error instanceof FornaxError) && !(error instanceof Error && typeof code === 'string')) throw error;
    return none(`the run's data cannot be read (${(error as Error).message})`);
  }
}

async function canDecode(preprocessing: Preprocessing, file: string): Promise<boolean> {
  try {
    await decodeFor(preprocessing, file);
    return true;
  } catch (error) {
    // Training left broken images out as well.
    if (error instanceof FornaxError) return false;
    throw error;
  }
}
