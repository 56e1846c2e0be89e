/** `fornax predict`: classify images. Needs the model file alone, no config. */
import type { Command } from 'commander';
import { wholeNumber } from './numbers.js';

export interface PredictFlags {
  model?: string;
  top: number;
  device: string;
  batchSize: number;
  json?: boolean;
}

export function registerPredict(program: Command): void {
  program
    .command('predict')
    .summary('classify images')
    .description('Classifies images with a trained model.')
    .argument('<image...>', 'files, folders (searched to any depth) or quoted glob patterns')
    .option('-m, --model <path>', 'model file, or the folder of a run; default: the newest model in runs/')
    .option('--top <n>', 'how many classes to show for each image', wholeNumber(1), 3)
    .option('--device <name>', 'auto, cpu, cuda, cuda:1', 'auto')
    .option('--batch-size <n>', 'images in a batch', wholeNumber(1), 32)
    .option('--json', 'one JSON object for each image on stdout')
    .action(async (images: string[], flags: PredictFlags) => {
      const { runPredict } = await import('./predict_run.js');
      process.exitCode = await runPredict(images, flags);
    });
}
