/** One format on its way to its place: written beside it, read again, compared, and only then renamed. */
import { promises as fs } from 'node:fs';

import { AbortedError, ExportError, FornaxError } from '../errors.js';
import { writeAtomically } from '../io/atomic.js';
import { writeError } from '../io/write_error.js';
import type { Difference } from './compare.js';
import type { Exporter, ExportSource } from './format.js';
import { verify, type Expected } from './verify.js';

export interface Written {
  /** Files that belong to it. */
  otherFiles: readonly string[];
  /** By what it was read again. */
  how: string;
  /** For each output the largest difference from the source. */
  differences: Difference[];
}

/**
 * @throws ExportError if the format cannot hold the model, the file cannot be written, or it does not compute what the
 *   source does. Then nothing new is left, and what was at `file` before is still there.
 */
export async function writeChecked(
  exporter: Exporter,
  source: ExportSource,
  file: string,
  expected: readonly Expected[],
  options: { tolerance: number; signal?: AbortSignal | undefined },
): Promise<Written> {
  const reason = exporter.unsupported(source);
  if (reason !== null) {
    throw new ExportError({
      what: `the model cannot be exported as ${exporter.format}: ${reason}`,
      where: file,
    });
  }
  let otherFiles: readonly string[] = [];
  try {
    return await writeAtomically(file, async (temporary) => {
      otherFiles = (await exporter.write(source, temporary, file)) ?? [];
      const reopened = await exporter.open(source, temporary);
      try {
        const differences = await verify(reopened, expected, { ...options, where: file });
        return { otherFiles, how: reopened.how, differences };
      } finally {
        reopened.dispose();
      }
    });
  } catch (error) {
    for (const other of otherFiles) await fs.rm(other, { force: true });
    if (error instanceof AbortedError || error instanceof ExportError) throw error;
    // The temporary name, which others may have reported, is gone.
    const known = error instanceof FornaxError ? error : writeError(error, file);
    throw new ExportError({ what: known.what, where: file, fix: known.fix, cause: error });
  }
}
