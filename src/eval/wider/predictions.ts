/**
 * Predictions of a face detector in the text form of RetinaFace and of WIDER FACE's own tools: a folder for each
 * event, in it a file for each image: its name, the number of faces, then `x y width height score` on each line.
 */
import { promises as fs } from 'node:fs';
import path from 'node:path';

import { AbortedError, DataError } from '../../errors.js';
import { escapeControlCharacters } from '../../io/control_characters.js';
import type { WiderImage } from './ground_truth.js';

/** Files that are read at the same time. */
const parallelReads = 32;

export interface ReadPredictionsOptions {
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal | undefined;
}

/** [x, y, width, height, score] of every prediction in the file's order, one after another. */
export function parsePredictions(text: string, file: string): number[] {
  const lines = text.split('\n');
  const count = Number(lines[1]?.trim() || NaN);
  if (!Number.isSafeInteger(count) || count < 0) {
    throw new DataError({
      what: 'the second line must be the number of faces',
      where: `${file}:2`,
      fix: 'each file has the name of the image, the number of faces, then `x y width height score` lines',
    });
  }
  const values: number[] = [];
  for (let i = 2; i < lines.length; i++) {
    const line = lines[i]!.trim();
    if (line === '') continue;
    const fields = line.split(/\s+/).slice(0, 5).map(Number);
    if (fields.length !== 5 || !fields.every(Number.isFinite)) {
      throw new DataError({
        what: `expected \`x y width height score\`, got '${escapeControlCharacters(line.slice(0, 80))}'`,
        where: `${file}:${i + 1}`,
      });
    }
    values.push(...fields);
  }
  if (values.length !== count * 5) {
    throw new DataError({
      what: `the file announces ${count} faces and has ${values.length / 5}`,
      where: file,
      fix: 'it was cut off: write the predictions again',
    });
  }
  return values;
}

/**
 * The predictions for every image, in the order of `images`.
 *
 * @throws DataError for events or files that are missing (all are counted, the first ones named) or broken
 */
export async function readWiderPredictions(
  folder: string,
  images: readonly WiderImage[],
  { onProgress, signal }: ReadPredictionsOptions = {},
): Promise<number[][]> {
  await checkEvents(folder, images);
  const results = new Array<number[]>(images.length);
  const missing: string[] = [];
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    while (next < images.length) {
      if (signal?.aborted) throw new AbortedError('the evaluation was stopped');
      const i = next++;
      const { event, name } = images[i]!;
      const file = path.join(folder, event, `${name}.txt`);
      const text = await readText(file);
      if (text === null) missing.push(path.join(event, `${name}.txt`));
      else results[i] = parsePredictions(text, file);
      onProgress?.(++done, images.length);
    }
  };
  await Promise.all(Array.from({ length: parallelReads }, work));
  if (missing.length > 0) {
    throw new DataError({
      what: `${missing.length} of ${images.length} images have no file of predictions: ${shown(missing.sort())}`,
      where: folder,
      fix: 'write a file for every image; without faces it has the name of the image and 0',
    });
  }
  return results;
}

async function checkEvents(folder: string, images: readonly WiderImage[]): Promise<void> {
  let found: Set<string>;
  try {
    found = new Set(await fs.readdir(folder));
  } catch (error) {
    throw new DataError({ what: 'the folder of predictions cannot be read', where: folder, cause: error });
  }
  const events = [...new Set(images.map(({ event }) => event))];
  const missing = events.filter((event) => !found.has(event));
  if (missing.length === 0) return;
  throw new DataError({
    what: `${missing.length} of ${events.length} events have no folder of predictions: ${shown(missing)}`,
    where: folder,
    fix: 'give the folder that holds one folder for each event, with one text file for each image',
  });
}

async function readText(file: string): Promise<string | null> {
  try {
    return await fs.readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new DataError({ what: 'the predictions cannot be read', where: file, cause: error });
  }
}

function shown(names: readonly string[]): string {
  return escapeControlCharacters(names.slice(0, 3).join(', ')) + (names.length > 3 ? ', …' : '');
}
