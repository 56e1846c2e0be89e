/** `fornax lr-find`: tries learning rates and suggests one. */
import type { Command } from 'commander';
import { positive, wholeNumber } from './numbers.js';
import { collect, type TrainFlags } from './train.js';

export interface LrFindFlags extends Pick<TrainFlags, 'config' | 'set' | 'data' | 'model' | 'device'> {
  initFrom?: string;
  min: number;
  max: number;
  steps: number;
  stop: boolean;
  plot?: string;
  out?: string;
  json?: boolean;
}

export function registerLrFind(program: Command): void {
  program
    .command('lr-find')
    .summary('suggest a learning rate')
    .description(
      'Trains for a moment at growing learning rates (Smith 2017) and suggests the one at which the loss falls best.\n' +
        'Nothing is written but what --plot and --out name; no run is begun, and no weights are kept.',
    )
    .argument('[config...]', 'YAML files, as for train; later ones win')
    .option('-c, --config <file>', 'a further YAML file; may be repeated', collect)
    .option('--set <key=value>', 'override a key of the config; may be repeated', collect)
    .option('--data <dir>', 'images in <class>/ folders, or a folder with train/ in it (data.path)')
    .option('--model <name>', 'the architecture (model.name)')
    .option('--device <name>', 'auto, cpu, cuda, cuda:1')
    .option(
      '--init-from <path>',
      'start from the weights of a run, a checkpoint or a file (model.pretrained)',
    )
    .option('--min <rate>', 'first learning rate', positive, 1e-7)
    .option('--max <rate>', 'last learning rate', positive, 10)
    .option('--steps <n>', 'optimizer steps', wholeNumber(20), 100)
    .option('--no-stop', 'go on after the loss has exploded')
    .option('--plot <file.svg>', 'draw the curve')
    .option('--out <file.json>', 'write the curve and the suggestions')
    .option('--json', 'one JSON object a line on stdout')
    .addHelpText(
      'after',
      `
Examples:
  fornax lr-find config.yaml
  fornax lr-find --data photos --model resnet18 --plot rates.svg
  fornax train config.yaml --set train.lr=0.003`,
    )
    .action(async (files: string[], flags: LrFindFlags) => {
      const { runLrFind } = await import('./lr_find_run.js');
      process.exitCode = await runLrFind([...files, ...(flags.config ?? [])], flags);
    });
}
