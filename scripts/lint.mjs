/** `npm run lint [-- --fix]`: tsc, eslint, prettier and clang-format over everything that is in git or about to be. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { bootstrap, report, root } from './bootstrap.mjs';
import { clangFormat } from './clang_format.mjs';

const fix = process.argv.includes('--fix');

/** Files of the working tree that git does not ignore. */
function files(...patterns) {
  const list = spawnSync('git', ['ls-files', '-z', '-co', '--exclude-standard', '--', ...patterns], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  if (list.status !== 0) throw new Error(`git ls-files failed: ${list.stderr}`);
  const deleted = spawnSync('git', ['ls-files', '-z', '-d'], { cwd: root, encoding: 'utf8' }).stdout.split(
    '\0',
  );
  return list.stdout.split('\0').filter((file) => file && !deleted.includes(file));
}

/** Runs one checker; `summarise` turns its output into what is worth reading. */
function check(name, command, args, summarise) {
  const started = performance.now();
  const stdio = summarise ? ['ignore', 'pipe', 'pipe'] : 'inherit';
  const result = spawnSync(command, args, { cwd: root, stdio, encoding: 'utf8', maxBuffer: 2 ** 28 });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const passed = result.status === 0;
  if (result.error) process.stdout.write(`${command}: ${result.error.message}\n`);
  else if (!passed && summarise) process.stdout.write(summarise(`${result.stdout}${result.stderr}`));
  process.stdout.write(`${passed ? 'passed' : 'FAILED'}: ${name} (${seconds} s)\n`);
  return passed;
}

/** clang-format complains about every token; the files are what one needs to know. */
function unformatted(output) {
  const names = [...new Set([...output.matchAll(/^(\S+?):\d+:\d+: /gm)].map((match) => match[1]))];
  return names.length > 0 ? names.map((name) => `not formatted: ${name}\n`).join('') : output;
}

const bin = (name) => join(root, 'node_modules', '.bin', name);

try {
  // On a fresh clone there is no eslint yet. The compiler belongs here, too; the addon does not.
  await bootstrap({ addon: false });
  const results = [
    check('eslint', bin('eslint'), ['--max-warnings=0', ...(fix ? ['--fix'] : []), '.']),
    check('prettier', bin('prettier'), [fix ? '--write' : '--check', '--log-level=warn', '.']),
    check(
      'clang-format',
      await clangFormat(),
      [...(fix ? ['-i'] : ['--dry-run', '--Werror']), '--style=file', ...files('native/*.cc', 'native/*.h')],
      unformatted,
    ),
  ];
  if (results.includes(false)) {
    process.stdout.write('fix: npm run lint -- --fix repairs formatting; the rest is by hand\n');
    process.exitCode = 1;
  }
} catch (error) {
  process.exitCode = report(error);
}
