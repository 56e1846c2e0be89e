/** `fornax export`: a model in other programs' formats, each file checked against the model. */
import { InvalidArgumentError, type Command } from 'commander';
import { wholeNumber } from './numbers.js';

export interface ExportFlags {
  format: string[];
  out: string;
  name?: string;
  weights?: string;
  strict: boolean;
  classes?: number;
  channels?: number;
  resolution?: number[];
  preprocess?: boolean;
  images?: string[];
  seed: number;
  device?: string;
  json?: boolean;
}

/** `onnx,pth`, and the option may be given again. */
function list(text: string, before: string[] = []): string[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  if (names.length === 0) throw new InvalidArgumentError('Expected names with commas between them.');
  return [...before, ...names];
}

/** `384` or `512x384`. */
function resolution(text: string): number[] {
  const sides = text.split('x').map(wholeNumber(1));
  if (sides.length > 2) throw new InvalidArgumentError('Expected pixels, or <height>x<width>.');
  return sides;
}

export function registerExport(program: Command): void {
  program
    .command('export')
    .summary('write a model as ONNX, TorchScript, .pth or safetensors')
    .description(
      'Writes a model in formats that other programs read, and checks each file: read again, it must compute what ' +
        'the model computes, or it is not kept.',
    )
    .argument('<model>', 'model file, the folder of a run, or an architecture with --weights')
    .requiredOption(
      '--format <names>',
      'fornax, safetensors, pth, torchscript, onnx, with commas between',
      list,
    )
    .option('-o, --out <path>', 'folder, or a file if there is one format', '.')
    .option('--name <text>', 'name of the files without extension; default: that of the model')
    .option('--weights <source>', "an architecture's weights: file, address, name, `default`, or `random`")
    .option('--no-strict', 'of --weights, load what fits, and list the rest')
    .option('--classes <n>', 'outputs of the classifier (architectures only)', wholeNumber(1))
    .option('--channels <n>', 'channels of the image (architectures only)', wholeNumber(1))
    .option(
      '--resolution <pixels>',
      'input size, 384 or <height>x<width>; default: that of the model',
      resolution,
    )
    .option('--preprocess', 'put normalisation inside: the export takes uint8 images [N, H, W, C]')
    .option(
      '--images <path...>',
      'check with these images: files, folders, quoted patterns; default: those of the run, or noise',
    )
    .option('--seed <n>', 'of the noise', wholeNumber(0), 0)
    .option(
      '--device <name>',
      'where the model runs for the check; default: device.export of the run, or cpu',
    )
    .option('--json', 'one JSON object for each format on stdout')
    .action(async (model: string, flags: ExportFlags) => {
      const { runExport } = await import('./export_run.js');
      process.exitCode = await runExport(model, flags);
    });
}
