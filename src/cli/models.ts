/** `fornax models`: the architectures that configs can name. */
import type { Command } from 'commander';
import { wholeNumber } from './numbers.js';
import { collect } from './train.js';

export interface ListFlags {
  filter?: string;
  json?: boolean;
}

export interface ShowFlags {
  classes?: number;
  resolution?: number;
  channels?: number;
  set?: string[];
}

export interface GetFlags {
  weights: string;
  weightsDir?: string;
  out?: string;
  strict: boolean;
  force?: boolean;
  json?: boolean;
}

export function registerModels(program: Command): void {
  const models = program
    .command('models')
    .summary('list the architectures')
    .description('Lists the architectures: task, parameters, multiply-accumulates, published weights.');
  models
    .option('--filter <text>', 'only those with the text in their name, task or paper')
    .option('--json', 'as JSON, one object a line')
    .action(async (flags: ListFlags) => {
      const { listModels } = await import('./models_list.js');
      listModels(flags);
    });

  models
    .command('show')
    .description('Prints a model: its layers with output shape, parameters and MACs, and its options.')
    .argument('<model>', 'an architecture, a model file, or a run folder')
    .option('--classes <n>', 'outputs of the classifier (architectures only)', wholeNumber(1))
    .option('--resolution <n>', 'input size in pixels', wholeNumber(1))
    .option('--channels <n>', 'channels of the image (architectures only)', wholeNumber(1))
    .option(
      '--set <key=value>',
      'an option of the architecture (model.options.width=0.5); may be repeated',
      collect,
    )
    .action(async (name: string, flags: ShowFlags) => {
      const { showModel } = await import('./models_show.js');
      await showModel(name, flags);
    });

  models
    .command('get')
    .description('Writes a model file with published weights, for predict, eval and export.')
    .argument('<architecture>', 'by its name in `fornax models`')
    .option(
      '--weights <name>',
      'which of the published weights; or a file, or an address with #sha256=…',
      'default',
    )
    .option('--weights-dir <dir>', 'where to look for the published file first; default: $FORNAX_WEIGHTS')
    .option('--out <file>', 'default: <architecture>.safetensors')
    .option('--no-strict', 'load what fits, and list the rest')
    .option('--force', 'replace the file')
    .option('--json', 'one JSON object a line on stdout')
    .action(async (name: string, flags: GetFlags, command: Command) => {
      const { getModel } = await import('./models_get.js');
      // `models` has --json too, and takes it before `get` sees it.
      await getModel(name, { ...flags, ...command.optsWithGlobals<Pick<GetFlags, 'json'>>() });
    });
}
