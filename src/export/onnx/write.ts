/** Writes ONNX files (opset 18): see docs/export.md. */
import { randomBytes } from 'node:crypto';
import { promises as fs } from 'node:fs';

import { fornaxVersion } from '../../version.js';
import type { ExportSource } from '../format.js';
import { exportMetadata } from '../metadata.js';
import { convert, OPSET } from './convert.js';
import type { KeyValue } from './messages.js';
import { writeModel } from './stream.js';

/** Of ONNX 1.13 and 1.14, whose opset is 18. */
const IR_VERSION = 8;

/** What ONNX Runtime gives as `custom_metadata_map`: text as it is, anything else as JSON. */
function metadata(source: ExportSource): KeyValue[] {
  return Object.entries(exportMetadata(source)).map(([key, value]: [string, unknown]) => ({
    key,
    value: typeof value === 'string' ? value : JSON.stringify(value),
  }));
}

export interface WriteOptions {
  /** Weights in a second file. Default: where they exceed the 2 GiB that an ONNX file can hold. */
  external?: boolean;
}

/**
 * Writes `source` to `file`, which must not exist, and flushes it. The weights are copied one tensor at a time.
 *
 * @param target the name that the file will have in the end: a second file is named after it.
 * @returns the second file, if there is one
 * @throws ExportError that names the node for which ONNX has no counterpart
 */
export async function writeOnnx(
  source: ExportSource,
  file: string,
  target: string,
  options: WriteOptions = {},
): Promise<string[]> {
  const { builder, inputs, outputs } = convert(source);
  const dataFile = `${target}.${randomBytes(4).toString('hex')}.data`;
  const model = {
    ir_version: IR_VERSION,
    producer_name: 'fornax',
    producer_version: fornaxVersion(),
    opset_import: [{ domain: '', version: OPSET }],
    metadata_props: metadata(source),
    graph: { name: source.info.name || 'model', node: builder.nodes, input: inputs, output: outputs },
  };
  try {
    const second = await writeModel(file, model, builder.initializers, { dataFile, ...options });
    return second ? [dataFile] : [];
  } catch (error) {
    await fs.rm(dataFile, { force: true });
    throw error;
  }
}
