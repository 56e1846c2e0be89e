/** What an exported file says about itself, in every format: no graph, but all that its user has to know. */
import { fornaxVersion } from '../version.js';
import type { ExportSource } from './format.js';

export interface ExportMetadata {
  producer: string;
  name: string;
  task: string;
  labels: string[];
  /** From an image to the input; see docs/export.md. Null: not known. */
  preprocessing: ExportSource['info']['preprocessing'];
  /** Whether casting, normalisation and the change of layout are inside the exported model. */
  preprocessing_inside: boolean;
  inputs: { name: string; dtype: string; dims: (number | string)[] }[];
  outputs: string[];
  /** What the export is specialised for, in words. */
  guards: string[];
  provenance: Record<string, unknown>;
  metrics: Record<string, number | null>;
}

export function exportMetadata({ graph, inputs, guards, constants, info }: ExportSource): ExportMetadata {
  return {
    producer: `fornax ${fornaxVersion()}`,
    name: info.name,
    task: info.task,
    labels: [...info.labels],
    preprocessing: info.preprocessing,
    preprocessing_inside: constants.size > 0,
    inputs: inputs.map(({ name, dtype, dims }) => ({ name, dtype, dims: [...dims] })),
    outputs: graph.outputs.map(({ name }) => name),
    guards: [...guards],
    provenance: info.provenance,
    metrics: info.metrics,
  };
}
