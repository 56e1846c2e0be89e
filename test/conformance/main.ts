/** `npm run conformance -- [FILE…]`: compares Fornax with reference results of other programs. */
import { join } from 'node:path';
import { Command } from 'commander';
import { goldenFiles, goldenFolder } from './golden_files.js';
import { runConformance } from './runner.js';

const command = new Command('npm run conformance --')
  .description(
    'Runs golden files (test/golden) and compares every field of every case under the tolerance of its file.\n' +
      'Exit code 1 on any miss.',
  )
  .argument(
    '[file...]',
    'golden files, JSON with a field `kind`; default: those in test/golden of a known kind',
  )
  .option('--only <names>', 'cases or models to run, separated by commas')
  .option('--allow-unknown', 'a kind, case or model that cannot be run is not a failure')
  .parse();

const { only, allowUnknown } = command.opts<{ only?: string; allowUnknown?: boolean }>();
let files = command.args;
if (files.length === 0) {
  const { known, waiting } = goldenFiles();
  files = known.map((name) => join(goldenFolder, name));
  if (waiting.length > 0) console.log(`left out, no module for their kind: ${waiting.join(', ')}`);
}
const { ok } = await runConformance({
  files,
  print: (line) => console.log(line),
  ...(only === undefined ? {} : { only: only.split(',').map((name) => name.trim()) }),
  ...(allowUnknown === undefined ? {} : { allowUnknown }),
});
process.exitCode = ok ? 0 : 1;
