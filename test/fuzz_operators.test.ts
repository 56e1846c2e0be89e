/**
 * Model files may come from anywhere, and their graphs call libtorch's operators with arguments of their choice.
 * Whatever those are, the process lives on and the answer is a result or a typed error.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const child = fileURLToPath(new URL('./support/operator_child.js', import.meta.url));
/** KiB of address space: an operator that is asked for 8 GiB or more is refused at once, as one asked for terabytes. */
const LIMIT = 8 * 1024 * 1024;

interface Tally {
  refused: number;
  failed: number;
  ran: number;
  faults: string[];
  operators: number;
  reached: number;
}

async function fuzz(first: number, count: number): Promise<Tally> {
  const folder = mkdtempSync(join(tmpdir(), 'fornax-fuzz-'));
  const note = join(folder, 'note');
  try {
    const run = spawn(
      '/bin/sh',
      [
        '-c',
        `ulimit -v ${LIMIT} 2>/dev/null; exec "$@"`,
        'sh',
        process.execPath,
        child,
        `${first}`,
        `${count}`,
      ],
      { env: { ...process.env, FORNAX_FUZZ_NOTE: note }, timeout: 600_000, killSignal: 'SIGKILL' },
    );
    let output = '';
    let errors = '';
    run.stdout.on('data', (data: Buffer) => (output += data.toString()));
    run.stderr.on('data', (data: Buffer) => (errors += data.toString()));
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      run.once('error', reject);
      run.once('close', (...how) => resolve(how));
    });
    assert.deepEqual(
      [code, signal],
      [0, null],
      `the process died (SIGKILL: it hung) in ${readFileSync(note, 'utf8').trim()}\n${errors.slice(-2000)}`,
    );
    return JSON.parse(output) as Tally;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('20,000 calls of allowed operators with random arguments give results or typed errors', async (t) => {
  const tally = await fuzz(0, 20_000);
  t.diagnostic(JSON.stringify(tally));
  assert.deepEqual(tally.faults, []);
  // Draws that are all refused, or all valid, would test nothing.
  assert.ok(tally.operators > 200, `only ${tally.operators} operators with their overloads`);
  assert.ok(
    tally.reached > tally.operators / 2,
    `only ${tally.reached} of ${tally.operators} ever gave a result`,
  );
  assert.ok(tally.failed > 3000, `only ${tally.failed} failed`);
});
