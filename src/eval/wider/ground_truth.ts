/**
 * The ground truth of WIDER FACE's validation set, as its authors publish it (`eval_tools/ground_truth`): all faces
 * in wider_face_val.mat, and in wider_{easy,medium,hard}_val.mat which of them count.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';

import { DataError } from '../../errors.js';
import { type MatCells, type MatValue, readMatFile } from '../../io/mat_file.js';

export const widerSettings = ['easy', 'medium', 'hard'] as const;
export type WiderSetting = (typeof widerSettings)[number];

export interface WiderImage {
  /** `0--Parade`. */
  event: string;
  /** Without extension: `0_Parade_marchingband_1_465`. */
  name: string;
  /** [x, y, width, height] of each face, one after another. */
  faces: number[];
  /** Which faces count, 0-based, per setting. */
  counted: Record<WiderSetting, number[]>;
}

const facesFile = 'wider_face_val.mat';
const settingFile = (setting: WiderSetting): string => `wider_${setting}_val.mat`;

/**
 * @param folder holds the four files
 * @throws DataError for files that are missing, broken, or do not fit together
 */
export async function readWiderGroundTruth(folder: string): Promise<WiderImage[]> {
  const names = [facesFile, ...widerSettings.map(settingFile)];
  const missing = names.filter((name) => !existsSync(path.join(folder, name)));
  if (missing.length > 0) {
    throw new DataError({
      what: `the ground truth of WIDER FACE is not complete: ${missing.join(', ')} missing`,
      where: folder,
      fix: 'give the folder eval_tools/ground_truth of the data set: it holds four .mat files',
    });
  }
  const [faces, ...settings] = await Promise.all(names.map((name) => openFile(path.join(folder, name))));
  const events = faces!.cells('event_list').map((cell, e) => faces!.text(cell, `event_list{${e + 1}}`));
  const fileLists = faces!.lists('file_list', events.length);
  const boxLists = faces!.lists('face_bbx_list', events.length);
  const counted = settings.map((file) => file.lists('gt_list', events.length));
  return events.flatMap((event, e) =>
    fileLists[e]!.map((cell, i) => {
      const at = `{${e + 1}}{${i + 1}}`;
      const boxes = faces!.boxes(boxLists[e]![i], `face_bbx_list${at}`);
      const count = boxes.length / 4;
      const of = (s: number): number[] => settings[s]!.indices(counted[s]![e]![i], count, `gt_list${at}`);
      return {
        event,
        name: faces!.text(cell, `file_list${at}`),
        faces: boxes,
        counted: { easy: of(0), medium: of(1), hard: of(2) },
      };
    }),
  );
}

async function openFile(file: string): Promise<GroundTruthFile> {
  return new GroundTruthFile(file, await readMatFile(file));
}

/** Reads the variables of one file and says which one is not as it should be. */
class GroundTruthFile {
  constructor(
    private readonly file: string,
    private readonly variables: Map<string, MatValue>,
  ) {}

  private wrong(name: string, expected: string): DataError {
    return new DataError({
      what: `${name} is not ${expected}`,
      where: this.file,
      fix: 'the four .mat files of the ground truth must come from one download',
    });
  }

  cells(name: string): MatCells['cells'] {
    const value = this.variables.get(name);
    if (value?.kind !== 'cells') throw this.wrong(name, 'a cell array');
    return value.cells;
  }

  /** One cell array for each event. */
  lists(name: string, events: number): MatCells['cells'][] {
    const lists = this.cells(name);
    if (lists.length !== events) throw this.wrong(name, `a list for each of ${events} events`);
    return lists.map((list, e) => {
      if (list?.kind === 'cells') return list.cells;
      throw this.wrong(`${name}{${e + 1}}`, 'a cell array');
    });
  }

  text(value: MatValue | null | undefined, name: string): string {
    if (value?.kind !== 'text' || value.text === '') throw this.wrong(name, 'a name');
    return value.text;
  }

  /** An n × 4 matrix, row by row. */
  boxes(value: MatValue | null | undefined, name: string): number[] {
    if (value?.kind !== 'numbers') throw this.wrong(name, 'a matrix of boxes');
    const [rows, columns] = value.dims as [number, number];
    if (value.values.length === 0) return [];
    if (value.dims.length !== 2 || columns !== 4 || !value.values.every(Number.isFinite)) {
      throw this.wrong(name, 'a matrix of boxes [x, y, width, height]');
    }
    return Array.from({ length: rows * 4 }, (_, i) => value.values[Math.floor(i / 4) + (i % 4) * rows]!);
  }

  /** Numbers of faces, 1-based in the file. */
  indices(value: MatValue | null | undefined, faces: number, name: string): number[] {
    if (value?.kind !== 'numbers') throw this.wrong(name, 'a list of the numbers of faces');
    for (const n of value.values) {
      if (!Number.isInteger(n) || n < 1 || n > faces) {
        throw this.wrong(name, `a list of numbers from 1 to ${faces}, the faces of the image`);
      }
    }
    return value.values.map((n) => n - 1);
  }
}
