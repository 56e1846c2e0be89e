/** The scripts in examples/ run as they are. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

test('two_branch.mjs trains, measures, saves and loads a model of two branches', async () => {
  const script = fileURLToPath(new URL('../../../examples/two_branch.mjs', import.meta.url));
  const { stdout } = await run(process.execPath, [script], { timeout: 600_000 });
  const epochs = [
    ...stdout.matchAll(/^epoch (\d): top-1 ([\d.]+) %, side ([\d.]+) %, confidence ([\d.]+)$/gm),
  ];
  assert.deepEqual(
    epochs.map((match) => match[1]),
    ['1', '2', '3', '4'],
  );
  const [, , top1, side, confidence] = epochs.at(-1)!.map(Number);
  assert.ok(top1! > 90 && side! > 95 && confidence! > 0.8, stdout);
  assert.equal([...stdout.matchAll(/^ {2}step \d+: loss/gm)].length, 6);
  assert.match(stdout, /saved and loaded: confidence 0\.\d+/);
  const answer = /class "(.+)" is taken for "(.+)"/.exec(stdout)!;
  assert.equal(answer[1], answer[2]);
});
