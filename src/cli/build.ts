/** `fornax build`: builds the addon explicitly. */
import type { Command } from 'commander';

interface BuildArguments {
  libtorch?: string;
  cuda?: boolean;
  cpu?: boolean;
  force?: boolean;
}

export function registerBuild(program: Command): void {
  program
    .command('build')
    .description('build the native addon; finds libtorch, or fetches it once into the cache folder')
    .option('--libtorch <path>', 'use this libtorch (the folder with include/ and lib/)')
    .option('--cuda', 'build the variant for NVIDIA GPUs (default where a driver is installed)')
    .option('--cpu', 'build the CPU variant')
    .option('--force', 'compile even if nothing changed')
    .action(async (options: BuildArguments) => {
      const { UsageError } = await import('../errors.js');
      if (options.cuda && options.cpu) {
        throw new UsageError({ what: '--cuda and --cpu exclude each other', fix: 'give one of them' });
      }
      const { prepareAddon } = await import('../native/prepare.js');
      const { sidecar, built } = await prepareAddon({
        libtorch: options.libtorch,
        variant: options.cuda ? 'cuda' : options.cpu ? 'cpu' : undefined,
        force: options.force,
        log: (line) => process.stderr.write(`fornax: ${line}\n`),
      });
      const variant = sidecar.cuda ? `CUDA ${sidecar.cuda}` : 'CPU';
      process.stdout.write(
        `${built ? 'Built' : 'Up to date:'} the addon, ${variant} variant, libtorch ${sidecar.torch} (${sidecar.libtorch})\n`,
      );
    });
}
