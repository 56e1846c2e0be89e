/** One format on its way to its place: written beside it, read again, compared, and only then renamed. */
import { promises as fs } from 'node:fs';
import path from 'node:path';

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

/** Beyond this no file is searched: one whose weights lie in a second file holds little but the graph. */
const MOST_SEARCHED = 256 * 2 ** 20;

/** `model.onnx.0a1b2c3d.data` beside the file, as the writer of ONNX names them, which the file refers to. */
async function secondFilesOf(file: string): Promise<string[]> {
  const folder = path.dirname(path.resolve(file));
  const start = `${path.basename(file)}.`;
  const names = await fs.readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
  const beside = names.filter(
    (name) => name.startsWith(start) && /^[0-9a-f]{8}\.data$/.test(name.slice(start.length)),
  );
  if (beside.length === 0) return [];
  const stat = await fs.stat(file).catch(() => null);
  if (stat === null || !stat.isFile() || stat.size > MOST_SEARCHED) return [];
  const contents = await fs.readFile(file);
  return beside.filter((name) => contents.includes(name)).map((name) => path.join(folder, name));
}

/**
 * @throws ExportError if the format cannot hold the model, the file cannot be written, or it does not compute what the
 *   source does. Then nothing new is left, and what was at `file` before is still there; otherwise the second file of an
 *   ONNX model that was replaced is gone with it.
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
  let written: Written;
  let replaced: readonly string[];
  try {
    replaced = await secondFilesOf(file);
    written = await writeAtomically(file, async (temporary) => {
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
  // The export stands: a leftover that cannot be removed is no failure.
  for (const second of replaced) await fs.rm(second, { force: true }).catch(() => undefined);
  return written;
}
