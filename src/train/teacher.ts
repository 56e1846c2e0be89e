/** The teacher of a distillation: a model that a run asks about every batch. */
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';

import type { Config } from '../config/schema.js';
import { ConfigError } from '../errors.js';
import { normalizeOf } from '../model/info.js';
import { Model } from '../model.js';
import type { TrainData } from './data.js';
import { runPaths } from './run_folder.js';

/**
 * Loads the teacher that `train.loss` names; null if no loss needs one.
 * @throws ConfigError if one is needed and none named; WeightsError if the file cannot be read
 */
export async function openTeacher(train: Pick<Config['train'], 'loss'>): Promise<Model | null> {
  const files = train.loss.flatMap((loss) => (loss.name === 'distillation' ? [loss.teacher] : []));
  const [file] = files;
  if (file === undefined) return null;
  if (file === null || files.some((other) => other !== file)) {
    throw new ConfigError({
      what: file === null ? "the loss 'distillation' has no teacher" : 'a run can have only one teacher',
      where: 'train.loss',
      fix: 'name its model file: { name: distillation, teacher: runs/large/model.safetensors }',
    });
  }
  return Model.load(teacherFile(file));
}

/** The model of a run's folder, or the file itself. @throws ConfigError where there is none */
function teacherFile(given: string): string {
  const stat = statSync(given, { throwIfNoEntry: false });
  const file = stat?.isDirectory() ? runPaths(given).model : given;
  if (existsSync(file)) return file;
  throw new ConfigError({
    what: stat ? `the teacher's folder holds no ${path.basename(file)}` : 'there is no such teacher',
    where: `train.loss: ${given}`,
    fix: 'name a model file, or the folder of a finished run: { name: distillation, teacher: runs/large }',
  });
}

/**
 * @throws ConfigError if the teacher's labels are not the classes of the data, in the same order (one without labels is
 * believed), or if nobody knows how it wants its images normalised
 */
export function checkTeacher(
  teacher: Model,
  { classes, preprocessing }: Pick<TrainData, 'classes' | 'preprocessing'>,
): void {
  if (preprocessing?.normalize && !normalizeOf(teacher.info.preprocessing)) {
    throw new ConfigError({
      what: 'the teacher does not say how its images are normalised',
      where: 'train.loss',
      fix: 'use a model that Fornax has trained, or set its info.preprocessing and save it again',
    });
  }
  const { labels } = teacher.info;
  if (labels.length === 0) return;
  const different = classes.findIndex((label, i) => labels[i] !== label);
  if (different === -1 && labels.length === classes.length) return;
  throw new ConfigError({
    what:
      labels.length === classes.length
        ? `class ${different} of the teacher is '${labels[different]}', of the data '${classes[different]}'`
        : `the teacher tells ${labels.length} classes apart, the data have ${classes.length}`,
    where: 'train.loss',
    fix: 'the teacher must be trained on the same classes',
  });
}
