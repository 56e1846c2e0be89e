/** `fornax init`: a commented config, fitted to a folder of images. */
import type { Command } from 'commander';

interface Flags {
  out: string;
  force?: boolean;
  json?: boolean;
}

export function registerInit(program: Command): void {
  program
    .command('init')
    .summary('write a commented config for a folder of images')
    .description('Looks at a folder of images and writes a commented config that fits it.')
    .argument('[dir]', 'folder with one subfolder of images per class, or with train/ and val/', '.')
    .option('-o, --out <file>', 'where to write it', 'config.yaml')
    .option('--force', 'overwrite an existing file')
    .option('--json', 'print what was found as JSON')
    .action(async (dir: string, flags: Flags) => {
      const { writeStarterConfig } = await import('../config/starter.js');
      const { survey, file } = await writeStarterConfig(dir, flags.out, { force: flags.force ?? false });
      if (flags.json) {
        const { toSnake } = await import('../config/case.js');
        process.stdout.write(JSON.stringify({ type: 'init', file, ...(toSnake(survey) as object) }) + '\n');
        return;
      }
      const { median } = survey;
      process.stdout.write(
        `${survey.classes} classes, ${survey.trainImages} training images` +
          (survey.valImages === null ? '' : `, ${survey.valImages} for validation`) +
          `, mostly about ${median.width}×${median.height} pixels\nWrote ${file}. Next:\n  fornax train ${file}\n`,
      );
    });
}
