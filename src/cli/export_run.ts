/** What `fornax export` does, once the addon may be loaded. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { parse } from 'yaml';

import { toSnake } from '../config/case.js';
import { ArgumentError, UsageError } from '../errors.js';
import { MOST_IMAGES } from '../export/check_inputs.js';
import { exportFormatsOf, type ExportFailure, type ExportResult } from '../export/export_model.js';
import { exporterOf } from '../export/exporters.js';
import type { ExportFormat } from '../export/format.js';
import { imagesOfRun } from '../export/run_images.js';
import { Model } from '../model.js';
import { readModelHeader } from '../model/file.js';
import { findArchitecture } from '../models/registry.js';
import { runPaths } from '../train/run_folder.js';
import type { ExportFlags } from './export.js';
import { runLongJob } from './long_job.js';
import { modelPath } from './model_path.js';
import { errorRecord } from './print_error.js';
import { bytes, paint } from './terminal.js';

/** @returns the exit code: 1 if a format could not be written */
export async function runExport(given: string, flags: ExportFlags): Promise<number> {
  const json = flags.json ?? false;
  const format = flags.format.map(formatOf);
  let failed = 0;
  await runLongJob({ json, whatNow: 'stopping' }, async ({ report, signal }) => {
    const model = await open(given, flags, (message) => report({ type: 'info', message }));
    using _ = typeof model === 'string' ? null : model;
    const options = {
      format,
      out: flags.out,
      name: flags.name ?? nameOf(given),
      ...(flags.resolution === undefined ? {} : { resolution: sides(flags.resolution) }),
      images: flags.images ?? (await runImages(model, (message) => report({ type: 'info', message }))),
      preprocess: flags.preprocess ?? false,
      seed: flags.seed,
      device: flags.device ?? deviceOfRun(model) ?? 'cpu',
      signal,
    };
    let first = true;
    for await (const outcome of exportFormatsOf(model, options)) {
      if ('error' in outcome) failed++;
      else if (first && !json) process.stdout.write(heading(outcome));
      first &&= 'error' in outcome;
      process.stdout.write(json ? jsonLine(outcome) : textLine(outcome));
    }
  });
  return Number(process.exitCode ?? (failed > 0 ? 1 : 0));
}

function sides([height, width]: readonly number[]): number | [number, number] {
  return width === undefined ? height! : [height!, width];
}

/** @throws UsageError for a name that is no format */
function formatOf(name: string): ExportFormat {
  try {
    return exporterOf(name).format;
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    throw new UsageError({ what: error.what, fix: error.fix });
  }
}

/** The path of a model file, which no export may replace; or an architecture with its weights. */
async function open(
  given: string,
  flags: ExportFlags,
  onMessage: (message: string) => void,
): Promise<Model | string> {
  const { weights, classes, channels, resolution } = flags;
  const isPath = existsSync(given) || existsSync(`runs/${given}`) || /[/\\.]/.test(given);
  if (isPath) {
    if (weights !== undefined || classes !== undefined || channels !== undefined || !flags.strict) {
      throw new UsageError({
        what: '--weights, --no-strict, --classes and --channels are for architectures; a model file has its own',
      });
    }
    return modelPath(given);
  }
  const { defaultResolution } = findArchitecture(given);
  if (weights === undefined) {
    throw new UsageError({
      what: `'${given}' is an architecture: it has no weights yet`,
      fix: 'name some with --weights (a file, an address, `default` for published ones, `random` for untrained ones), or give a model file',
    });
  }
  const [height = defaultResolution, width = height] = resolution ?? [];
  const options = {
    ...(classes === undefined ? {} : { numClasses: classes }),
    ...(channels === undefined ? {} : { inChannels: channels }),
    // Traced at that size: a branch on sizes goes the right way.
    ...(resolution === undefined ? {} : { inputs: [[1, channels ?? 3, height, width]] }),
  };
  return weights === 'random'
    ? Model.create(given, { ...options, seed: flags.seed })
    : Model.pretrained(given, {
        ...options,
        weights,
        strict: flags.strict,
        unstrict: '--no-strict',
        onMessage,
      });
}

/** Of a run: the folder's name, for all models of runs are called model.safetensors. */
function nameOf(given: string): string {
  const isFolder = statSync(given, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const name = basename(given.replace(/\/+$/, ''));
  return isFolder ? name : name.replace(/(\.fornax)?\.safetensors$/, '');
}

/** The config that a run was started with, if the model is that of a run. */
function configOfRun(model: Model | string): { device?: unknown; data?: unknown } | undefined {
  if (typeof model !== 'string') return undefined;
  const paths = runPaths(dirname(model));
  if (basename(model) !== basename(paths.model) || !existsSync(paths.config)) return undefined;
  return (parse(readFileSync(paths.config, 'utf8')) ?? {}) as { device?: unknown; data?: unknown };
}

/** Images that the model of a run was evaluated on, if they are still there; says what it takes and why not. */
async function runImages(model: Model | string, say: (message: string) => void): Promise<string[]> {
  const { data } = configOfRun(model) ?? {};
  if (typeof model !== 'string' || typeof data !== 'object' || data === null) return [];
  const { preprocessing, inputs } = (await readModelHeader(model)).info;
  if (preprocessing === null || inputs.length !== 1 || inputs[0]!.shape.length !== 4) return [];
  const { files, folder, reason } = await imagesOfRun(data, preprocessing, MOST_IMAGES);
  say(
    reason === null
      ? `the check takes ${files.length} images of the run's data, from ${folder}`
      : `the check takes noise: ${reason} (--images names others)`,
  );
  return files;
}

/** `device.export` in the config that a run was started with. */
function deviceOfRun(model: Model | string): string | undefined {
  const { device } = configOfRun(model) ?? {};
  if (typeof device === 'string') return device;
  const chosen = (device as { export?: unknown } | null | undefined)?.export;
  return typeof chosen === 'string' ? chosen : undefined;
}

/** What holds for all formats. */
function heading({ inputs, guards, check }: ExportResult): string {
  const shapes = inputs.map(({ name, dtype, dims }) => `${name} ${dtype} [${dims.join(', ')}]`);
  const checked =
    check.inputs === 'images'
      ? `${check.samples} image${check.samples === 1 ? '' : 's'}`
      : `${check.samples} samples of noise (--images names real ones)`;
  const lines = [`Input: ${shapes.join('; ')}`, `Checked with ${checked}.`];
  if (check.device !== 'cpu') {
    lines.push(
      `The model ran on ${check.device}, which rounds otherwise than the CPU: differences of up to ` +
        `${check.tolerance} of the standard deviation pass (--device cpu: a closer check).`,
    );
  }
  if (guards.length > 0) {
    lines.push(
      `Made for these sizes only where a length is a number: ${guards.length} branches depend on them.`,
    );
  }
  return lines.map((line) => paint(line, 'dim')).join('\n') + '\n';
}

function textLine(outcome: ExportResult | ExportFailure): string {
  const format = outcome.format.padEnd('torchscript'.length);
  if ('error' in outcome) {
    return `${paint(format, 'red')}  failed: ${outcome.error.what}\n`;
  }
  const { file, bytes: size, check } = outcome;
  const start = `${paint(format, 'bold')}  ${file}  ${bytes(size)}  `;
  if (!check.conclusive) {
    const outputs = check.unmoved.map((name) => `'${name}'`).join(', ');
    const warning =
      `check inconclusive: of the model itself, ${outputs} hardly depends on the input (untrained weights?), so that ` +
      'a wrong file would look right too';
    return `${start}${paint(warning, 'yellow')}\n`;
  }
  const apart =
    check.largest === 0
      ? 'equal to the last bit'
      : `largest difference ${check.largest.toExponential(1)} (${check.relative.toExponential(1)} of the standard deviation)`;
  return `${start}${apart}, by ${check.how}\n`;
}

function jsonLine(outcome: ExportResult | ExportFailure): string {
  const { format, file } = outcome;
  const record =
    'error' in outcome
      ? { type: 'export', format, file, passed: false, error: errorRecord(outcome.error) }
      : { type: 'export', passed: outcome.check.conclusive, ...(toSnake(outcome) as object) };
  return JSON.stringify(record) + '\n';
}
