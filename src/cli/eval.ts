/** `fornax eval`: figures of a model on labelled images. Needs the model file alone, no config. */
import type { Command } from 'commander';
import { wholeNumber } from './numbers.js';

export interface EvalFlags {
  data: string;
  split?: string;
  device: string;
  batchSize: number;
  confusion?: boolean;
  json?: boolean;
}

export function registerEval(program: Command): void {
  program
    .command('eval')
    .summary('evaluate a model on labelled images')
    .description('Evaluates a model: top-1, top-5, loss, and the accuracy of each class.')
    .argument('<model>', 'model file, or the folder of a run')
    .requiredOption(
      '--data <dir>',
      'images in <class>/ folders, or a folder with val/ or test/, or IDX files',
    )
    .option('--split <name>', 'folder inside --data; default: val, valid, validation or test if there is one')
    .option('--device <name>', 'auto, cpu, cuda, cuda:1', 'auto')
    .option('--batch-size <n>', 'images in a batch', wholeNumber(1), 128)
    .option('--confusion', 'print the confusion matrix too')
    .option('--json', 'one JSON object a line on stdout')
    .action(async (model: string, flags: EvalFlags) => {
      const { runEval } = await import('./eval_run.js');
      process.exitCode = await runEval(model, flags);
    });
}
