/** `fornax doctor`: what this installation can do, and what is wrong with it. */
import type { Command } from 'commander';

export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description(
      'show what this installation can do and what is wrong with it; exit code 1 if it cannot work',
    )
    .option('--json', 'print one JSON object')
    .action(async (options: { json?: boolean }) => {
      const { examine } = await import('../doctor/examine.js');
      const report = examine();
      if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
      else {
        const { formatReport } = await import('../doctor/print.js');
        process.stdout.write(formatReport(report));
      }
      if (!report.ok) process.exitCode = 1;
    });
}
