/** `fornax quickstart`: from nothing to a trained model in a few minutes, to see that everything works. */
import type { Command } from 'commander';

export interface QuickstartFlags {
  device: string;
  force?: boolean;
  json?: boolean;
}

export function registerQuickstart(program: Command): void {
  program
    .command('quickstart')
    .summary('train, evaluate and predict on generated images')
    .description('Makes a small set of images, trains a model on it, evaluates it and classifies one image.')
    .option('--device <name>', 'auto, cpu, cuda, cuda:1', 'auto')
    .option('--force', 'train again although it was done before')
    .option('--json', 'one JSON object a line on stdout')
    .action(async (flags: QuickstartFlags) => {
      const { runQuickstart } = await import('./quickstart_run.js');
      process.exitCode = await runQuickstart(flags);
    });
}
