/**
 * The command line as a whole. Each command registers its options here and imports its implementation when it
 * runs, so that `fornax --help` loads neither the addon nor sharp nor zod.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { AbortedError } from '../errors.js';
import { exitCodeOf, printError } from './print_error.js';
import { registerBn } from './bn.js';
import { registerBuild } from './build.js';
import { registerConfig } from './config.js';
import { registerData } from './data.js';
import { registerDoctor } from './doctor.js';
import { registerEval } from './eval.js';
import { registerExport } from './export.js';
import { registerInit } from './init.js';
import { registerLrFind } from './lr_find.js';
import { registerModels } from './models.js';
import { registerPredict } from './predict.js';
import { registerQuickstart } from './quickstart.js';
import { registerTrain } from './train.js';

function version(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** @param writeErr receives what commander says about a bad command line */
function createProgram(writeErr: (text: string) => void): Command {
  const program = new Command('fornax')
    .description('Trains vision models and deploys them on any CPU.')
    .version(version(), '-V, --version')
    .showSuggestionAfterError()
    .showHelpAfterError('Run the command with --help for its options.')
    // Both settings are inherited by the commands registered below.
    .configureOutput({ writeErr })
    .exitOverride();
  program.addHelpText(
    'after',
    `
Exit codes: 0 done, 1 failed, 2 bad usage or config, 130 interrupted, 143 terminated.

Start here:
  fornax quickstart                 train, evaluate and predict on generated images
  fornax train --data DIR           train on a folder of <class>/<image> folders
  fornax init DIR                   write a commented config for such a folder
  fornax predict IMAGE…             classify images with the newest model`,
  );
  registerTrain(program);
  registerLrFind(program);
  registerEval(program);
  registerPredict(program);
  registerBn(program);
  registerExport(program);
  registerInit(program);
  registerConfig(program);
  registerModels(program);
  registerData(program);
  registerQuickstart(program);
  registerDoctor(program);
  registerBuild(program);
  return program;
}

/**
 * `--resume` takes a value only after `=`. Commander would take the next word for it: in
 * `fornax train --resume config.yaml` that is the config.
 */
export function spellOutResume(args: readonly string[]): string[] {
  const spelt: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--') return [...spelt, ...args.slice(i)];
    if (args[i] !== '--resume') spelt.push(args[i]!);
    else if (args[i + 1] === 'auto') {
      spelt.push('--resume=auto');
      i++;
    } else spelt.push('--resume=required');
  }
  return spelt;
}

/** Runs one command line (without `node` and the script) and returns its exit code. Never throws. */
export async function runCli(args: readonly string[]): Promise<number> {
  const json = args.includes('--json');
  // `fornax … | head`: whoever read our output has gone, and there is nobody to tell.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(1);
    throw error;
  });
  let usage = '';
  const program = createProgram((text) => (usage += text));
  try {
    if (args.length === 0) {
      process.stdout.write(program.helpInformation());
      return 0;
    }
    await program.parseAsync(spellOutResume(args), { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return 0;
      // `fornax config` alone prints its help as an error.
      printError(error, { json, usage });
      return 2;
    }
    printError(error, { json });
    // A job stopped by SIGTERM has set 143 already.
    const stopped =
      error instanceof AbortedError && typeof process.exitCode === 'number' ? process.exitCode : 0;
    return stopped === 0 ? exitCodeOf(error) : stopped;
  }
}
