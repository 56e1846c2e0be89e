/** Losses that no data of a configuration can feed: they are for scripts, which bring data of their own. */
import { locate, nodeAt, showPath, type Located, type Path } from './located.js';
import type { Problem } from './problems.js';
import type { Config } from './schema.js';

const NEEDED: Partial<Record<Config['train']['loss'][number]['name'], string>> = {
  dice: 'masks',
  jaccard: 'masks',
  tversky: 'masks',
  lovasz: 'masks',
  mse: 'numbers as targets',
  smooth_l1: 'numbers as targets',
};

/** What a configured training gives as problem and fix for each loss that its data, labelled images, cannot feed. */
export function unfedLosses({
  train,
}: Pick<Config, 'train'>): { index: number; message: string; hint: string }[] {
  return train.loss.flatMap(({ name }, index) => {
    const needed = NEEDED[name];
    if (needed === undefined) return [];
    const message = `${name} needs ${needed}, but every data source of a configuration has images with one label each`;
    return [{ index, message, hint: 'train from a script: new Trainer() with memoryData(), docs/api.md' }];
  });
}

/** The same as problems with their places. */
export function checkLosses(config: Pick<Config, 'train'>, root: Located): Problem[] {
  return unfedLosses(config).map(({ index, message, hint }) => {
    const isList = Array.isArray(nodeAt(root, ['train', 'loss'])?.value);
    const path: Path = isList ? ['train', 'loss', index] : ['train', 'loss'];
    return { where: locate(root, path), key: showPath(path), message, hint };
  });
}
