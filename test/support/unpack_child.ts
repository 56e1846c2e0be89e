/**
 * Unpacks an archive for test/support/data.ts: argv are the archive, the folder it must hold, and the folder to
 * make, by one rename. Whoever comes second waits for the lock and finds the work done.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { withLock } from '#fornax/io/lock.js';

const [archive, name, target] = process.argv.slice(2) as [string, string, string];

function unpack(): void {
  if (existsSync(path.join(target, name))) return;
  const temporary = mkdtempSync(path.join(path.dirname(target), `.${name}-`));
  try {
    const tar = spawnSync('tar', ['-xf', archive, '-C', temporary], { encoding: 'utf8' });
    if (tar.status !== 0) throw new Error(tar.error?.message ?? tar.stderr.trim());
    if (!existsSync(path.join(temporary, name))) {
      throw new Error(`it holds no folder '${name}', only ${readdirSync(temporary).join(', ')}`);
    }
    renameSync(temporary, target);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

try {
  await withLock(`${target}.lock`, async () => unpack());
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
