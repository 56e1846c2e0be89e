/** `fornax data`: prepare the sample set, pack a folder ahead of training, look at what a folder holds. */
import { InvalidArgumentError, type Command } from 'commander';
import type { DataConfig } from '../data/dataset.js';
import type { PackMode } from '../data/pack_plan.js';
import { wholeNumber } from './numbers.js';

interface DataFlags {
  source: NonNullable<DataConfig['source']>;
  val?: string | false;
  valFraction?: number;
  resolution: number;
  channels?: 1 | 3;
  pack: PackMode;
  packSize?: number;
  onBroken: 'skip' | 'fail';
  cache?: string;
  json?: boolean;
}

function share(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value < 1)) {
    throw new InvalidArgumentError('expected a number of at least 0 and below 1');
  }
  return value;
}

function oneOf<T extends string>(...names: T[]): (text: string) => T {
  return (text) => {
    const found = names.find((name) => name === text);
    if (!found) throw new InvalidArgumentError(`expected ${names.join(', ')}`);
    return found;
  };
}

function channelCount(text: string): 1 | 3 {
  if (text !== '1' && text !== '3') throw new InvalidArgumentError('expected 1 or 3');
  return text === '1' ? 1 : 3;
}

function withDataFlags(command: Command): Command {
  return command
    .argument('[dir]', 'folder of the data')
    .option(
      '--source <kind>',
      'auto, folder, idx or shapes',
      oneOf('auto', 'folder', 'idx', 'shapes'),
      'auto',
    )
    .option('--val <name>', 'folder of the validation images')
    .option('--no-val', 'hold out a share of the training images even if there is a validation folder')
    .option('--val-fraction <share>', 'share held out where there is no validation folder', share)
    .option('--resolution <px>', 'resolution of training', wholeNumber(1), 224)
    .option('--channels <n>', '1 (grayscale) or 3 (RGB)', channelCount)
    .option('--pack <mode>', 'auto, resized or original', oneOf('auto', 'resized', 'original'), 'auto')
    .option('--pack-size <px>', 'shorter side of resized packs', wholeNumber(1))
    .option('--on-broken <policy>', 'skip or fail', oneOf('skip', 'fail'), 'skip')
    .option('--cache <dir>', 'folder for packs (default: $FORNAX_CACHE, else ~/.cache/fornax)')
    .option('--json', 'one JSON object a line');
}

function toConfig(dir: string | undefined, flags: DataFlags): DataConfig {
  return {
    source: flags.source,
    path: dir ?? null,
    valSplit: flags.val === false ? null : (flags.val ?? 'auto'),
    valFraction: flags.valFraction,
    resolution: [flags.resolution, flags.resolution],
    channels: flags.channels ?? 'auto',
    pack: flags.pack,
    packSize: flags.packSize,
    onBroken: flags.onBroken,
    cache: flags.cache,
  };
}

export function registerData(program: Command): void {
  const data = program.command('data').description('Prepares, packs and shows data.');

  const prepare = data.command('prepare').description('Makes data sets.');
  prepare
    .command('shapes')
    .description('Draws a sample set: JPEG files of six shapes, with masks and boxes.')
    .option('--out <dir>', 'folder to write (default: in the cache)')
    .option('--count <n>', 'images in all (default 3600)', wholeNumber(1))
    .option('--size <px>', 'height and width (default 64)', wholeNumber(1))
    .option('--seed <n>', 'seed (default 0)', wholeNumber(0))
    .option('--json', 'one JSON object a line')
    .action(async (flags: { out?: string; count?: number; size?: number; seed?: number; json?: boolean }) => {
      const { runPrepareShapes } = await import('./data_jobs.js');
      await runPrepareShapes(flags);
    });

  withDataFlags(data.command('pack'))
    .description('Decodes a data set into the cache, as training would.')
    .action(async (dir: string | undefined, flags: DataFlags) => {
      const { runPack } = await import('./data_jobs.js');
      await runPack(toConfig(dir, flags), flags.json ?? false);
    });

  data
    .command('info')
    .description('Shows splits, classes and sizes of a data set; writes nothing.')
    .argument('[dir]', 'folder of the data')
    .option(
      '--source <kind>',
      'auto, folder, idx or shapes',
      oneOf('auto', 'folder', 'idx', 'shapes'),
      'auto',
    )
    .option('--json', 'as JSON')
    .action(async (dir: string | undefined, flags: Pick<DataFlags, 'source' | 'json'>) => {
      const { runInfo } = await import('./data_jobs.js');
      await runInfo(dir, flags.source, flags.json ?? false);
    });
}
