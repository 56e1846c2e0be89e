/** What the writers of other programs' formats are given, and what each of them provides. */
import type { DType, Graph } from '../graph/format.js';
import type { ModelInfo } from '../model/info.js';
import type { NativeTensor } from '../native/contract.js';

export const exportFormats = ['fornax', 'safetensors', 'pth', 'torchscript', 'onnx'] as const;
export type ExportFormat = (typeof exportFormats)[number];

/** An input of the exported model. */
export interface ExportInput {
  name: string;
  dtype: DType;
  /** The example it was traced with: `[1, 3, 224, 224]`. */
  shape: number[];
  /** A number where the export holds for that length alone, else the name of the free dimension: `batch`. */
  dims: (number | string)[];
}

/** A tensor of the state, on the CPU and contiguous. */
export interface ExportTensor {
  name: string;
  kind: 'parameter' | 'buffer';
  tensor: NativeTensor;
}

/** A model as the writers see it. */
export interface ExportSource {
  /**
   * Of inference: the modes fixed to eval, auxiliary outputs and what only they need left out (see lower.ts). Its
   * nodes are libtorch's own operators with slots, constants, dtypes and size expressions as arguments: no modes, no
   * generators, nothing of the namespace `fornax`. Slots are compact; every one is written.
   */
  graph: Graph;
  /** One for each of `graph.parameters`, in their order: the whole state dict, used or not, then `constants`. */
  state: readonly ExportTensor[];
  /** Names of the last parameters, which belong to the export (preprocessing) and not to the model's state dict. */
  constants: ReadonlySet<string>;
  /** In the order of `graph.inputs`. */
  inputs: readonly ExportInput[];
  /** What tracing relied on, in words, one line for each guard; empty for a graph that holds for every size. */
  guards: readonly string[];
  info: ModelInfo;
  /** The model's own graph, with modes and auxiliary outputs, and what its file says of it. */
  original: { graph: Graph; info: ModelInfo };
}

/** A written file, opened again by a path of its own, to be compared with the source. */
export interface Reopened {
  /** By what it was read: `libtorch's TorchScript`, said in the report. */
  how: string;
  /** Inputs and outputs by name, as those of the source's graph. */
  forward(inputs: Record<string, NativeTensor>): Promise<Record<string, NativeTensor>>;
  dispose(): void;
}

export interface Exporter {
  format: ExportFormat;
  /** With the dot: `.onnx`. */
  extension: string;
  /**
   * Why this model cannot be written in this format (an operator without counterpart), naming the node; null if it
   * can. Asked before anything is written.
   */
  unsupported(source: ExportSource): string | null;
  /**
   * Writes the file and flushes it to the disk. `file` is a temporary name, which the caller renames to `target` (in
   * the same folder) once the check has passed, and removes otherwise.
   *
   * @returns other files that belong to it, if there are any, already under their final names, which nothing else
   *   has: the caller removes them if the check fails.
   */
  write(source: ExportSource, file: string, target: string): Promise<void> | Promise<readonly string[]>;
  /** Reads it back. @throws WeightsError if the file is not what was written */
  open(source: ExportSource, file: string): Promise<Reopened>;
}
