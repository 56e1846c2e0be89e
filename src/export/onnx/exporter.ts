/** The ONNX format, as `fornax export` sees it. */
import { ExportError } from '../../errors.js';
import type { Exporter, ExportSource, Reopened } from '../format.js';
import { convert } from './convert.js';
import { OnnxModel } from './read/model.js';
import { writeOnnx } from './write.js';

function unsupported(source: ExportSource): string | null {
  try {
    convert(source);
    return null;
  } catch (error) {
    if (error instanceof ExportError) return error.message;
    throw error;
  }
}

async function open(_source: ExportSource, file: string): Promise<Reopened> {
  const model = await OnnxModel.open(file);
  return {
    how: "Fornax's own reader of ONNX",
    forward: (inputs) => model.forward(inputs),
    dispose: () => model.dispose(),
  };
}

export const onnx: Exporter = {
  format: 'onnx',
  extension: '.onnx',
  unsupported,
  write: (source, file, target) => writeOnnx(source, file, target),
  open,
};
