/** Opens files of weights, with errors that say what is the matter. */
import { constants as fsConstants, promises as fs } from 'node:fs';

import { WeightsError } from '../errors.js';

/** Opens a file of weights. @throws WeightsError if it cannot be opened */
export async function openWeights(file: string): Promise<fs.FileHandle> {
  try {
    return await fs.open(file, fsConstants.O_RDONLY);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new WeightsError({
      what:
        code === 'ENOENT'
          ? 'the file does not exist'
          : `the file cannot be opened (${code ?? String(error)})`,
      where: file,
      fix: code === 'ENOENT' ? 'check the path' : undefined,
      cause: error,
    });
  }
}
