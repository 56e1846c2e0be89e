/** Every format that Fornax writes. */
import { ArgumentError } from '../errors.js';
import { nearest } from '../nearest.js';
import { exportFormats, type Exporter, type ExportFormat } from './format.js';
import { onnx } from './onnx/exporter.js';
import { torchscript } from './torchscript.js';
import { fornax, pth, safetensors } from './weights.js';

export const exporters: Readonly<Record<ExportFormat, Exporter>> = {
  fornax,
  safetensors,
  pth,
  torchscript,
  onnx,
};

/** @throws ArgumentError with the nearest name for one that is none */
export function exporterOf(format: string): Exporter {
  const found = Object.hasOwn(exporters, format) ? exporters[format as ExportFormat] : undefined;
  if (found !== undefined) return found;
  const hint = nearest(format, exportFormats);
  throw new ArgumentError({
    what: `there is no export format '${format}'`,
    fix: hint ? `did you mean '${hint}'?` : `there are: ${exportFormats.join(', ')}`,
  });
}
