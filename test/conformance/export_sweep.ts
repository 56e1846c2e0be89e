/**
 * `npm run conformance:export`: every architecture in every format, filled with weights under which each layer
 * matters, each file checked against its source. Prints one line for each architecture; exit code 1 on any miss.
 */
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Command } from 'commander';

import { difference } from '#fornax/export/compare.js';
import { exportFormatsOf } from '#fornax/export/export_model.js';
import { exportFormats, type ExportFormat } from '#fornax/export/format.js';
import { Model } from '#fornax/model.js';
import { architectures, type Architecture } from '#fornax/models/registry.js';
import { Tensor } from '#fornax/tensor.js';

import { fillInput, fillModel } from './fill.js';

export interface SweepRow {
  name: string;
  parameters: number;
  /** The input, each length a number or, where it is free, a name. */
  dims: (number | string)[];
  guards: number;
  seconds: number;
  /** Largest difference in standard deviations of its output, or why the format failed. */
  formats: Partial<Record<ExportFormat, number | string>>;
}

/** Small, for time; large enough for every stride and window. */
function sideOf({ name, defaultResolution }: Architecture): number {
  if (/^(vit|swin|inception|googlenet|alexnet)/.test(name)) return defaultResolution;
  return Math.min(defaultResolution, 96);
}

const MANY = 150e6;
/**
 * An input is multiplied by 1 + 1e-6, some eight units in its last place. A network whose output moves by more, in
 * standard deviations, makes of rounding alone what the formats are allowed.
 */
const SENSITIVE = 1e-4;

/**
 * The fill of the golden files. Some deep networks are chaotic under it: an input that differs in its last bits gives
 * quite another output. Their convolutions get smaller weights.
 */
async function fillCalmly(model: Model, shape: readonly number[]): Promise<void> {
  using input = Tensor.from(
    fillInput(
      shape.reduce((product, length) => product * length, 1),
      1,
    ),
    shape,
  );
  using moved = input.call('aten::mul.Scalar', 1 + 1e-6);
  for (const convGain of [1, 0.8, 0.6, 0.4]) {
    fillModel(model.native, { convGain });
    model.changed();
    const [before, after] = [await model.forward(input), await model.forward(moved)];
    const found = Object.entries(before).map(([name, tensor]) => difference(name, tensor, after[name]!));
    for (const tensor of [...Object.values(before), ...Object.values(after)]) tensor.dispose();
    if (found.every(({ relative }) => relative <= SENSITIVE)) return;
  }
  throw new Error(`${model.info.name} amplifies rounding whatever its weights`);
}

/** Exports one architecture to each of the formats, and removes the files again. */
export async function sweepOne(
  architecture: Architecture,
  formats: readonly ExportFormat[],
): Promise<SweepRow> {
  const started = Date.now();
  const side = sideOf(architecture);
  const folder = await fs.mkdtemp(path.join(tmpdir(), 'fornax-sweep-'));
  using model = Model.create(architecture.name, { inputs: [[1, 3, side, side]] });
  await fillCalmly(model, [1, 3, side, side]);
  const row: SweepRow = {
    name: architecture.name,
    parameters: model.parameterCount,
    dims: [],
    guards: 0,
    seconds: 0,
    formats: {},
  };
  try {
    // The files of the largest ones would fill a disk together.
    const groups = model.parameterCount < MANY ? [formats] : formats.map((format) => [format]);
    for (const group of groups) {
      for await (const outcome of exportFormatsOf(model, { format: group, out: folder })) {
        const { format } = outcome;
        if ('error' in outcome) {
          row.formats[format] = outcome.error.what;
        } else if (outcome.check.differences.some(({ std }) => std === 0)) {
          row.formats[format] = 'an output is constant, which says nothing';
        } else {
          row.formats[format] = outcome.check.relative;
          row.dims = outcome.inputs[0]!.dims;
          row.guards = outcome.guards.length;
        }
      }
      for (const file of await fs.readdir(folder)) await fs.rm(path.join(folder, file));
    }
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
  row.seconds = (Date.now() - started) / 1000;
  return row;
}

function line({ name, parameters, dims, guards, seconds, formats }: SweepRow): string {
  const cells = Object.entries(formats).map(([format, result]) =>
    typeof result === 'number' ? `${format} ${result.toExponential(1)}` : `${format} FAILED: ${result}`,
  );
  const size = `${(parameters / 1e6).toFixed(1)}M`;
  return `${name}  ${size}  [${dims.join(', ')}]  ${guards} guards  ${cells.join('  ')}  ${seconds.toFixed(1)} s`;
}

async function main(): Promise<void> {
  const command = new Command('npm run conformance:export --')
    .description('Exports every architecture to every format and compares each file with its source.')
    .option('--only <names>', 'architectures, separated by commas')
    .option('--formats <names>', 'formats, separated by commas', exportFormats.join(','))
    .option('--json <file>', 'append one JSON object for each architecture')
    .parse();
  const { only, formats, json } = command.opts<{ only?: string; formats: string; json?: string }>();
  const wanted = only?.split(',');
  let failed = 0;
  for (const architecture of architectures) {
    if (wanted && !wanted.includes(architecture.name)) continue;
    const row = await sweepOne(architecture, formats.split(',') as ExportFormat[]);
    console.log(line(row));
    if (json !== undefined) await fs.appendFile(json, JSON.stringify(row) + '\n');
    if (Object.values(row.formats).some((result) => typeof result === 'string')) failed++;
  }
  if (failed > 0) console.log(`${failed} architecture(s) failed in a format.`);
  process.exitCode = failed > 0 ? 1 : 0;
}

if (import.meta.url === `file://${process.argv[1]}`) await main();
