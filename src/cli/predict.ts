/** `fornax predict`: classify images, or find faces in them. Needs the model file alone, no config. */
import type { Command } from 'commander';
import { share, wholeNumber } from './numbers.js';

export interface PredictFlags {
  model?: string;
  top: number;
  confidence: number;
  nms: number;
  maxSide?: number;
  out: string;
  draw: boolean;
  wider?: string;
  device: string;
  batchSize: number;
  json?: boolean;
}

export function registerPredict(program: Command): void {
  program
    .command('predict')
    .summary('classify images, or find faces in them')
    .description(
      'Classifies images with a trained model. With a face detector: finds faces and writes copies of the images ' +
        'with boxes and landmarks drawn in; the originals are only read.',
    )
    .argument('<image...>', 'files, folders (searched to any depth) or quoted glob patterns')
    .option('-m, --model <path>', 'model file, or the folder of a run; default: the newest model in runs/')
    .option('--top <n>', 'how many classes to show for each image', wholeNumber(1), 3)
    .option('--confidence <share>', 'faces: drop those with a lower score', share, 0.5)
    .option('--nms <share>', 'faces: of two that overlap by more, drop the worse', share, 0.4)
    .option('--max-side <pixels>', 'faces: scale larger images down first (default: no)', wholeNumber(32))
    .option('-o, --out <dir>', 'faces: folder for the copies, <name>.faces.<ext>', 'faces')
    .option('--no-draw', 'faces: write no copies')
    .option('--wider <dir>', 'faces: also write text files for `eval --task faces`, with --confidence 0.02')
    .option('--device <name>', 'auto, cpu, cuda, cuda:1', 'auto')
    .option('--batch-size <n>', 'images in a batch of a classifier', wholeNumber(1), 32)
    .option('--json', 'one JSON object for each image on stdout')
    .action(async (images: string[], flags: PredictFlags) => {
      const { runPredict } = await import('./predict_run.js');
      process.exitCode = await runPredict(images, flags);
    });
}
