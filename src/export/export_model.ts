/** Exports of a model to other programs' formats, each checked against its source before it gets its name. */
import { existsSync, promises as fs, realpathSync, statSync } from 'node:fs';
import path from 'node:path';

import { ArgumentError, ExportError, type FornaxError } from '../errors.js';
import { Model } from '../model.js';
import { normalizeOf } from '../model/info.js';
import { loadAddon } from '../native.js';
import { resolveDevice } from '../train/devices.js';
import { checkInputs, disposeInputs } from './check_inputs.js';
import type { Difference } from './compare.js';
import { exporterOf } from './exporters.js';
import type { Exporter, ExportFormat, ExportInput } from './format.js';
import { exportSource } from './source.js';
import {
  GPU_TOLERANCE,
  PREPROCESS_TOLERANCE,
  runSource,
  tolerances,
  unmovedOutputs,
  type Expected,
} from './verify.js';
import { writeChecked } from './write_checked.js';

export interface ExportOptions {
  /** One or more of fornax, safetensors, pth, torchscript, onnx. */
  format: ExportFormat | readonly ExportFormat[];
  /**
   * A folder (made if it is not there), where each format gets the model's name and its extension, or, for a single
   * format, a file. Default: the working directory.
   */
  out?: string;
  /** Name of the files without extension. Default: the file's name, else the model's. */
  name?: string;
  /** Side in pixels (or height and width) to export at, where the model's own is not wanted. */
  resolution?: number | readonly [number, number];
  /** Put the normalisation inside: the export takes uint8 images [N, H, W, C], RGB. Default false. */
  preprocess?: boolean;
  /** Check with these images: files, folders, patterns; at most 16 are taken. Default: noise from `seed`. */
  images?: readonly string[];
  /** Default 0. */
  seed?: number;
  /** Where the source runs for the check: `cpu` (default), `auto`, `cuda`, `cuda:N`. */
  device?: string;
  signal?: AbortSignal;
}

export interface ExportResult {
  format: ExportFormat;
  file: string;
  /** Files that belong to it: the weights of an ONNX model beyond 2 GiB. */
  otherFiles: readonly string[];
  /** Of all its files. */
  bytes: number;
  /** The inputs, each length a number or, where it is free, a name. */
  inputs: readonly ExportInput[];
  /** What the export is specialised for, in words; empty if for nothing but the lengths in `inputs`. */
  guards: readonly string[];
  check: {
    /** By what the file was read again. */
    how: string;
    inputs: 'images' | 'random';
    /** Images, or samples of noise. */
    samples: number;
    /** For each output the largest difference from the source. */
    differences: readonly Difference[];
    /** The largest of them, absolute and in standard deviations of its output. */
    largest: number;
    relative: number;
    tolerance: number;
    /** Where the model ran: `cpu`, `cuda:0`. Elsewhere than on the CPU the tolerance is wider. */
    device: string;
    /**
     * Whether the file could have failed. False where an output hardly depends on the input (an untrained head of
     * zeros) and the format is a program: one that ignored its input would have passed.
     */
    conclusive: boolean;
    /** The outputs that hardly depend on the input. */
    unmoved: readonly string[];
  };
}

/** One format that could not be exported, or whose check failed. */
export interface ExportFailure {
  format: ExportFormat;
  file: string;
  error: FornaxError;
}

function stemOf(model: Model | string, name: string | undefined): string {
  const given =
    name ??
    (typeof model === 'string' ? path.basename(model).replace(/(\.fornax)?\.[^.]*$/, '') : model.info.name);
  const safe = given.replace(/[^\w.-]+/g, '_').replace(/^\.+/, '');
  return safe === '' ? 'model' : safe;
}

/** A single format may be given a file; a folder is one that is there, or a name without an extension. */
function targetOf(out: string, stem: string, exporter: Exporter, only: boolean): string {
  const isFolder = statSync(out, { throwIfNoEntry: false })?.isDirectory() ?? false;
  return only && path.extname(out) !== '' && !isFolder ? out : path.join(out, stem + exporter.extension);
}

async function totalBytes(files: readonly string[]): Promise<number> {
  const sizes = await Promise.all(files.map((file) => fs.stat(file)));
  return sizes.reduce((sum, { size }) => sum + size, 0);
}

/**
 * Exports format after format and yields how each went; a failure of one does not keep the others from being tried.
 * Nothing that was at a target before is lost by a failure.
 *
 * @throws what concerns all of them: ArgumentError, ConfigError, GraphError, GuardError, DataError, DeviceError.
 */
export async function* exportFormatsOf(
  model: Model | string,
  options: ExportOptions,
): AsyncGenerator<ExportResult | ExportFailure, void, void> {
  const { signal, seed = 0, preprocess = false } = options;
  const formats = [...new Set(typeof options.format === 'string' ? [options.format] : options.format)];
  const chosen = formats.map(exporterOf);
  if (chosen.length === 0) throw new ArgumentError('no export format was given');
  const device = resolveDevice(options.device ?? 'cpu', loadAddon().systemInfo());
  const stem = stemOf(model, options.name);
  const targets = chosen.map((exporter) => targetOf(options.out ?? '.', stem, exporter, chosen.length === 1));
  if (typeof model === 'string') refuseOverwriting(model, targets);

  const loaded = typeof model === 'string' ? await Model.load(model) : model;
  const expected: Expected[] = [];
  let release: () => void = () => undefined;
  try {
    const state = loaded.native.state();
    const made = exportSource({ graph: loaded.graph, state, info: loaded.info }, options);
    const { source } = made;
    const inputs = await checkInputs(source, {
      images: options.images,
      preprocess,
      seed,
    });
    release = () => {
      made.release();
      disposeInputs(inputs);
      for (const { tensor } of state) tensor.dispose();
    };
    const normalize = normalizeOf(loaded.info.preprocessing);
    expected.push(...(await runSource(loaded.native, inputs, { device: device.device, normalize, signal })));
    const main = inputs.filter(({ kind }, i) => kind === inputs[0]!.kind && (kind === 'images' || i === 0));
    const samples = main.reduce((sum, { exported }) => sum + (Object.values(exported)[0]!.shape[0] ?? 1), 0);

    for (const [i, exporter] of chosen.entries()) {
      const file = targets[i]!;
      const { format } = exporter;
      const tolerance = Math.max(
        tolerances[format],
        preprocess && (format === 'torchscript' || format === 'onnx') ? PREPROCESS_TOLERANCE : 0,
        device.type === 'cuda' ? GPU_TOLERANCE : 0,
      );
      try {
        const written = await writeChecked(exporter, source, file, expected, { tolerance, signal });
        const { otherFiles, how, differences } = written;
        const unmoved = unmovedOutputs(expected, tolerance);
        const worst = differences.reduce((a, b) => (b.relative > a.relative ? b : a));
        yield {
          format,
          file,
          otherFiles,
          bytes: await totalBytes([file, ...otherFiles]),
          inputs: source.inputs,
          guards: source.guards,
          check: {
            how,
            inputs: inputs[0]!.kind,
            samples,
            differences,
            largest: worst.largest,
            relative: worst.relative,
            tolerance,
            device: device.device,
            // State dicts and model files are compared bit for bit, whatever the outputs.
            conclusive: unmoved.length === 0 || (format !== 'torchscript' && format !== 'onnx'),
            unmoved,
          },
        };
      } catch (error) {
        if (!(error instanceof ExportError)) throw error;
        yield { format, file, error };
      }
    }
  } finally {
    for (const { outputs } of expected) for (const tensor of Object.values(outputs)) tensor.dispose();
    release();
    if (typeof model === 'string') loaded.dispose();
  }
}

/** `model.safetensors` exported as safetensors into its own folder would replace the model by its weights. */
function refuseOverwriting(model: string, targets: readonly string[]): void {
  const own = existsSync(model) ? realpathSync(model) : null;
  for (const target of targets) {
    if (own === null || !existsSync(target) || realpathSync(target) !== own) continue;
    throw new ArgumentError({
      what: 'the export would replace the model file that it is made from',
      where: target,
      fix: 'choose another folder or name',
    });
  }
}

/**
 * Exports a model, or a model file, and checks each file against its source.
 *
 * @returns one result for each format, in the order given.
 * @throws ExportError if a format cannot hold the model or a check failed (the others are written all the same);
 *   ArgumentError, ConfigError, GraphError, GuardError, DataError, DeviceError for what concerns all of them.
 */
export async function exportModel(model: Model | string, options: ExportOptions): Promise<ExportResult[]> {
  const results: ExportResult[] = [];
  const failures: ExportFailure[] = [];
  for await (const outcome of exportFormatsOf(model, options)) {
    if ('error' in outcome) failures.push(outcome);
    else results.push(outcome);
  }
  const [first, ...others] = failures;
  if (first === undefined) return results;
  if (others.length === 0) throw first.error;
  throw new ExportError({
    what: failures.map(({ format, error }) => `${format}: ${error.what}`).join('\n'),
    fix: first.error.fix,
    cause: first.error,
  });
}
