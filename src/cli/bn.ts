/** `fornax bn`: batch-norm statistics of a model, computed anew from images. */
import type { Command } from 'commander';
import { wholeNumber } from './numbers.js';

export interface BnFlags {
  data: string;
  split?: string;
  output?: string;
  batches: number;
  batchSize: number;
  device: string;
  json?: boolean;
}

export function registerBn(program: Command): void {
  program
    .command('bn')
    .summary("recompute a model's batch-norm statistics")
    .description(
      'Gives every batch norm the statistics of its activations over training images, with dropout off, and writes\n' +
        'the model to a new file.',
    )
    .argument('<model>', 'model file, or the folder of a run')
    .requiredOption('--data <dir>', 'images in <class>/ folders, or a folder with train/ in it, or IDX files')
    .option('--split <name>', 'folder inside --data; default: train if there is one, else the data itself')
    .option('-o, --output <file>', 'default: beside the model, with -bn in its name')
    .option('--batches <n>', 'batches at most', wholeNumber(1), 200)
    .option('--batch-size <n>', 'images in a batch', wholeNumber(2), 128)
    .option('--device <name>', 'auto, cpu, cuda, cuda:1', 'auto')
    .option('--json', 'one JSON object a line on stdout')
    .action(async (model: string, flags: BnFlags) => {
      const { runBn } = await import('./bn_run.js');
      process.exitCode = await runBn(model, flags);
    });
}
