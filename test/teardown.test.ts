/** Processes and worker threads that end in the middle of native work: no crash, no hang. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const job = fileURLToPath(new URL('./teardown/job.js', import.meta.url));
const late = fileURLToPath(new URL('./teardown/late.js', import.meta.url));

interface Outcome {
  code: number | null;
  signal: string | null;
  output: string;
}

function run(script: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--expose-gc', script, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 300_000,
      killSignal: 'SIGKILL',
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => (output += data.toString()));
    child.stderr.on('data', (data: Buffer) => (output += data.toString()));
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, output }));
  });
}

for (const work of ['inference', 'evaluation', 'training', 'loading', 'measuring']) {
  describe(`${work} survives`, () => {
    for (const [ending, code] of [
      ['exit', 7],
      ['throw', 1],
      ['terminate', 7],
      ['gc', 7],
      ['finish', 7],
    ] as const) {
      it(ending, async () => {
        const outcome = await run(job, work, ending);
        assert.equal(
          outcome.signal,
          null,
          `killed by ${outcome.signal} (a crash or a hang)\n${outcome.output}`,
        );
        assert.equal(outcome.code, code, outcome.output);
        assert.match(outcome.output, /^busy/, outcome.output);
        if (ending === 'throw') assert.match(outcome.output, /on purpose/);
        else assert.doesNotMatch(outcome.output, /rejected/, 'the work was cut off, not refused');
      });
    }
  });
}

describe('handles in a listener of exit, after the native threads ended, are answered', () => {
  for (const state of ['idle', 'running']) {
    it(state, async () => {
      const { code, signal, output } = await run(late, state);
      assert.equal(signal, null, `killed by ${signal} (a crash or a hang)\n${output}`);
      assert.equal(code, 7, output);
      const outcomes = new Map(
        output
          .trim()
          .split('\n')
          .map((line) => line.split(' ') as [string, string]),
      );
      assert.equal(outcomes.get('disposeLoader'), 'done', output);
      for (const [use, outcome] of outcomes)
        assert.match(outcome, /^(done|pending|AbortedError|DisposedError)$/, `${use}: ${outcome}`);
      // What needs a thread cannot be done any more.
      for (const use of ['session', 'loader']) assert.equal(outcomes.get(use), 'AbortedError', output);
    });
  }
});
