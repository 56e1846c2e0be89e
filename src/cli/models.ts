/** `fornax models`: the architectures that configs can name. */
import type { Command } from 'commander';
import { wholeNumber } from './numbers.js';

export interface ShowFlags {
  classes?: number;
  resolution?: number;
  channels?: number;
}

export function registerModels(program: Command): void {
  const models = program
    .command('models')
    .summary('list the architectures')
    .description('Lists the architectures.');
  models.option('--json', 'as JSON, one object a line').action(async (flags: { json?: boolean }) => {
    const { architectures } = await import('../models/registry.js');
    const { table } = await import('./terminal.js');
    if (flags.json) {
      const { toSnake } = await import('../config/case.js');
      for (const { name, task, defaultResolution, defaultClasses } of architectures) {
        const record = { type: 'model', name, task, defaultResolution, defaultClasses };
        process.stdout.write(JSON.stringify(toSnake(record)) + '\n');
      }
      return;
    }
    const rows = architectures.map((a) => [
      a.name,
      a.task,
      `${a.defaultResolution}²`,
      String(a.defaultClasses),
    ]);
    process.stdout.write(
      table([['model', 'task', 'made for', 'classes'], ...rows], [2, 3]) +
        '\n\n`fornax models show NAME` prints the layers. Size and number of classes follow the data.\n',
    );
  });

  models
    .command('show')
    .description('Prints the layers of a model: path, output shape, parameters, MACs.')
    .argument('<model>', 'an architecture, a model file, or a run folder')
    .option('--classes <n>', 'outputs of the classifier (architectures only)', wholeNumber(1))
    .option('--resolution <n>', 'input size in pixels', wholeNumber(1))
    .option('--channels <n>', 'channels of the image (architectures only)', wholeNumber(1))
    .action(async (name: string, flags: ShowFlags) => {
      const { showModel } = await import('./models_show.js');
      await showModel(name, flags);
    });
}
