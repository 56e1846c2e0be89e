/** The npm scripts that run what was built: they prepare what is missing, then run the command. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { bootstrap, BootstrapError, report, root, run } from './bootstrap.mjs';

const [command, ...args] = process.argv.slice(2);

/** Test files are run two at a time: each starts native threads of its own. */
const TEST_CONCURRENCY = 2;
/** A test that hangs must not hang the run. */
const TEST_TIMEOUT_MS = 900_000;

function testCommand(args) {
  const folder = join(root, 'build/dev/test');
  const names = args.filter((arg) => !arg.startsWith('-'));
  const files = readdirSync(folder, { recursive: true })
    .filter((file) => file.endsWith('.test.js'))
    .filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
    .sort();
  if (files.length === 0) throw new BootstrapError(`no test file matches ${names.join(', ')}`);
  return [
    '--enable-source-maps',
    '--test',
    '--test-reporter=spec',
    `--test-concurrency=${TEST_CONCURRENCY}`,
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    ...args.filter((arg) => arg.startsWith('-')),
    ...files.map((file) => join(folder, file)),
  ];
}

/** `--kills N`: how many times the run is killed. */
function killCommand(args) {
  const [flag, kills = '200', ...rest] = args;
  if (rest.length > 0 || (flag !== undefined && flag !== '--kills') || !/^[1-9]\d*$/.test(kills)) {
    throw new BootstrapError('usage: npm run test:kill [-- --kills N]');
  }
  process.env.FORNAX_KILLS = kills;
  process.env.FORNAX_KILL_SEED ??= String(Date.now() % 1_000_000);
  return testCommand(['kill.test.js']).map((arg) =>
    arg.startsWith('--test-timeout=') ? '--test-timeout=7200000' : arg,
  );
}

const commands = {
  build: () => undefined,
  test: () => testCommand(args),
  'test:kill': () => killCommand(args),
  quickstart: () => ['dist/cli/main.js', 'quickstart', ...args],
  conformance: () => ['--enable-source-maps', 'build/dev/test/conformance/main.js', ...args],
  'conformance:export': () => ['--enable-source-maps', 'build/dev/test/conformance/export_sweep.js', ...args],
  bench: () => ['--enable-source-maps', 'build/dev/bench/main.js', ...args],
  'bench:train': () => ['--enable-source-maps', 'build/dev/bench/train_main.js', ...args],
  catalogue: () => ['build/dev/scripts/model_catalogue.js'],
};

async function main() {
  if (!Object.hasOwn(commands, command ?? '')) {
    throw new BootstrapError(`usage: node scripts/run.mjs ${Object.keys(commands).join('|')} [arguments]`);
  }
  await bootstrap({ keepGoing: command === 'build' });
  const line = commands[command]();
  if (!line) return 0;
  const script = line.find((arg) => arg.endsWith('.js'));
  if (script && !existsSync(join(root, script)) && !existsSync(script)) {
    throw new BootstrapError(`${script} does not exist in this version of the sources`);
  }
  return run(process.execPath, line);
}

main().then(
  (code) => (process.exitCode = code),
  (error) => (process.exitCode = report(error)),
);
