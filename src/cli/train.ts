/** `fornax train`: the main job. */
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { Override } from '../config/load.js';
import { wholeNumber } from './numbers.js';
import { weightsPath } from './model_path.js';

export interface TrainFlags {
  config?: string[];
  set?: string[];
  data?: string;
  model?: string;
  epochs?: string;
  name?: string;
  device?: string;
  resume?: 'required' | 'auto';
  resumeFrom?: string;
  initFrom?: string;
  force?: boolean;
  dryRun?: boolean;
  overfit?: number;
  nproc?: number;
  json?: boolean;
}

/** Gathers the values of an option that may be repeated. */
export const collect = (value: string, previous?: string[]): string[] => [...(previous ?? []), value];

function resumeMode(text: string): 'required' | 'auto' {
  if (text !== 'required' && text !== 'auto')
    throw new InvalidArgumentError('It is --resume or --resume=auto.');
  return text;
}

export function registerTrain(program: Command): void {
  program
    .command('train')
    .summary('train a model')
    .description('Trains a model, from a config or from a folder of images alone.')
    .argument('[config...]', 'YAML files; later ones win')
    .option('-c, --config <file>', 'a further YAML file; may be repeated', collect)
    .option(
      '--set <key=value>',
      'override a key of the config (train.batch_size=32); may be repeated',
      collect,
    )
    .option('--data <dir>', 'the images (data.path)')
    .option('--model <name>', 'the architecture (model.name)')
    .option('--epochs <n>', 'passes over the images (train.epochs)')
    .option('--name <name>', 'name of the run (name)')
    .option('--device <name>', 'where training and evaluation run: auto, cpu, cuda, cuda:1')
    // spellOutResume (program.ts) gives it its value.
    .option(
      '--resume [=auto]',
      'go on from the last checkpoint; =auto starts fresh where there is none',
      resumeMode,
    )
    .option(
      '--resume-from <checkpoint>',
      'go on from this checkpoint: an older one of the run, or one of another run under a new name',
    )
    .option(
      '--init-from <path>',
      'start a new training from the weights of a run, a checkpoint or a file (model.pretrained)',
    )
    .option('--force', 'train anew although the run has results; the old model is kept beside the new one')
    .option('--dry-run', 'one batch of every phase in a temporary folder, to see that all works')
    .option(
      '--overfit <images>',
      'learn so many images by heart in a temporary folder, to see that anything can be learnt',
      wholeNumber(1),
    )
    .option(
      '--nproc <n>',
      'train in so many processes on this machine, one for each GPU; train.batch_size is that of each',
      wholeNumber(1),
    )
    .option('--json', 'one JSON object a line on stdout')
    .addHelpText(
      'after',
      `
Examples:
  fornax train --data photos --epochs 20
  fornax train config.yaml --set train.batch_size=32 --set train.optimizer=adamw
  fornax train base.yaml server.yaml --resume=auto`,
    )
    .action(async (files: string[], flags: TrainFlags) => {
      const { runTrain } = await import('./train_run.js');
      process.exitCode = await runTrain([...files, ...(flags.config ?? [])], flags);
    });
}

/** Options of the command line as config overrides. */
export function overridesOf(flags: TrainFlags): Override[] {
  const overrides: Override[] = [];
  const add = (option: string, key: string, value: string | number | undefined): void => {
    if (value !== undefined) overrides.push({ key, option: `${option} ${value}`, value });
  };
  add('--data', 'data.path', flags.data);
  add('--model', 'model.name', flags.model);
  // Not a number: the schema says so, naming the option.
  const epochs = flags.epochs === undefined ? undefined : Number(flags.epochs);
  add('--epochs', 'train.epochs', Number.isNaN(epochs) ? flags.epochs : epochs);
  add('--name', 'name', flags.name);
  add('--init-from', 'model.pretrained', flags.initFrom && weightsPath(flags.initFrom));
  add('--device', 'device.train', flags.device);
  add('--device', 'device.eval', flags.device);
  return overrides;
}
