/** `fornax eval`: figures of a model on labelled images, or of predicted faces. Needs no config. */
import { type Command, Option } from 'commander';
import { UsageError } from '../errors.js';
import { wholeNumber } from './numbers.js';

export interface EvalFlags {
  data: string;
  split?: string;
  device: string;
  batchSize: number;
  confusion?: boolean;
  json?: boolean;
}

export interface EvalFacesFlags {
  predictions: string;
  groundTruth: string;
  json?: boolean;
}

interface GivenFlags extends Partial<EvalFlags & EvalFacesFlags> {
  task?: 'classification' | 'faces';
  device: string;
  batchSize: number;
}

export function registerEval(program: Command): void {
  program
    .command('eval')
    .summary('evaluate a model on labelled images, or predicted faces on WIDER FACE')
    .description(
      'Evaluates a model: top-1, top-5, loss, macro F1, AUROC, calibration error, and the figures of each class.\n' +
        'With --task faces: average precision of predictions on the easy, medium and hard faces of WIDER FACE.',
    )
    .argument('[model]', 'model file, or the folder of a run')
    .addOption(
      new Option('--task <name>', 'what is evaluated; default: the task of the model').choices([
        'classification',
        'faces',
      ]),
    )
    .option('--data <dir>', 'images in <class>/ folders, or a folder with val/ or test/, or IDX files')
    .option('--split <name>', 'folder inside --data; default: val, valid, validation or test if there is one')
    .option('--device <name>', 'auto, cpu, cuda, cuda:1', 'auto')
    .option('--batch-size <n>', 'images in a batch', wholeNumber(1), 128)
    .option('--confusion', 'print the confusion matrix too')
    .option('--predictions <dir>', 'faces: a folder for each event, in it a text file for each image')
    .option('--ground-truth <dir>', 'faces: wider_face_val.mat and wider_{easy,medium,hard}_val.mat')
    .option('--json', 'one JSON object a line on stdout')
    .action(async (model: string | undefined, flags: GivenFlags) => {
      process.exitCode = await evaluate(model, flags);
    });
}

async function evaluate(model: string | undefined, flags: GivenFlags): Promise<number> {
  const aboutFaces = flags.predictions !== undefined || flags.groundTruth !== undefined;
  if (flags.task === 'faces') return evaluateFaces(model, flags);
  if (aboutFaces) {
    throw new UsageError({
      what: '--predictions and --ground-truth belong to --task faces',
      fix: 'add --task faces',
    });
  }
  if (model === undefined) {
    throw new UsageError({ what: 'no model was named', fix: '`fornax eval MODEL --data DIR`' });
  }
  const { data } = flags;
  if (data === undefined) {
    throw new UsageError({ what: 'no images were named', fix: 'add --data DIR' });
  }
  const { runEval } = await import('./eval_run.js');
  return runEval(model, { ...flags, data });
}

async function evaluateFaces(model: string | undefined, flags: GivenFlags): Promise<number> {
  const { predictions, groundTruth } = flags;
  if (predictions === undefined || groundTruth === undefined) {
    const missing = [
      ...(predictions === undefined ? ['--predictions'] : []),
      ...(groundTruth === undefined ? ['--ground-truth'] : []),
    ];
    throw new UsageError({
      what: `--task faces needs ${missing.join(' and ')}`,
      fix: '`fornax eval --task faces --predictions DIR --ground-truth DIR`',
    });
  }
  const strange = (['data', 'split', 'confusion'] as const).filter((key) => flags[key] !== undefined);
  if (model !== undefined || strange.length > 0) {
    const what = model === undefined ? `--${strange[0]}` : `the model '${model}'`;
    throw new UsageError({
      what: `${what} is not used by --task faces: it evaluates predictions in text files`,
      fix: 'leave it out',
    });
  }
  const { runEvalFaces } = await import('./eval_faces_run.js');
  return runEvalFaces({ predictions, groundTruth, ...(flags.json ? { json: true } : {}) });
}
