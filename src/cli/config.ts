/** `fornax config`: check a config, show it with every default filled in, print the schema. */
import type { Command } from 'commander';
import { collect } from './train.js';

interface Flags {
  config?: string[];
  set?: string[];
  json?: boolean;
}

function withSources(command: Command): Command {
  return command
    .argument('[config...]', 'YAML files; later ones win')
    .option('-c, --config <file>', 'a further YAML file; may be repeated', collect)
    .option('--set <key=value>', 'override a key; may be repeated', collect);
}

export function registerConfig(program: Command): void {
  const config = program
    .command('config')
    .summary('check and show configs')
    .description('Checks and shows configs.');

  withSources(config.command('validate'))
    .description('Checks a config and lists every problem with its line.')
    .option('--json', 'print the result as JSON')
    .action(async (files: string[], flags: Flags) => {
      const { UsageError } = await import('../errors.js');
      const all = [...files, ...(flags.config ?? [])];
      if (all.length === 0) {
        throw new UsageError({ what: 'No config to check', fix: 'fornax config validate config.yaml' });
      }
      const { loadConfig } = await import('../config/load.js');
      const loaded = loadConfig({ files: all, sets: flags.set ?? [] });
      process.stdout.write(
        flags.json
          ? JSON.stringify({ type: 'config', valid: true, files: all, name: loaded.name }) + '\n'
          : `${all.join(', ')}: valid\n`,
      );
    });

  withSources(config.command('show'))
    .description('Prints the merged config with every default filled in.')
    .option('--json', 'as JSON')
    .action(async (files: string[], flags: Flags) => {
      const { loadConfig } = await import('../config/load.js');
      const loaded = loadConfig({ files: [...files, ...(flags.config ?? [])], sets: flags.set ?? [] });
      if (flags.json) {
        const { toSnake } = await import('../config/case.js');
        process.stdout.write(JSON.stringify(toSnake(loaded), null, 2) + '\n');
      } else {
        const { configToYaml } = await import('../config/write.js');
        process.stdout.write(configToYaml(loaded));
      }
    });

  config
    .command('schema')
    .description('Prints the JSON Schema of configs, for editors.')
    .action(async () => {
      const { jsonSchema } = await import('../config/json_schema.js');
      process.stdout.write(JSON.stringify(jsonSchema(), null, 2) + '\n');
    });
}
