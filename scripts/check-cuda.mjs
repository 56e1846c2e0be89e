/**
 * `npm run check:cuda -- --libtorch PATH`: compiles and links the CUDA variant in a folder of its own, without
 * nvcc, and loads it here. Needs a CUDA build of torch with its NVIDIA packages; a GPU is not needed: then the
 * addon must load, say so, and count none. `--keep FOLDER` leaves the build there, and the next one with the same
 * folder compiles what changed since.
 */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { bootstrap, BootstrapError, report, root, run } from './bootstrap.mjs';

function option(name) {
  const at = process.argv.indexOf(name);
  return at > 0 ? process.argv[at + 1] : undefined;
}
const libtorch = option('--libtorch') ?? process.env.FORNAX_LIBTORCH ?? process.env.LIBTORCH;
const keep = option('--keep');

/** A folder of ours: the given one, or one that goes again. */
function makeFolder() {
  if (!keep) return mkdtempSync(join(process.env.FORNAX_CHECK_FOLDER ?? tmpdir(), 'fornax-cuda-'));
  mkdirSync(resolve(keep), { recursive: true });
  return resolve(keep);
}

async function main() {
  if (!libtorch)
    throw new BootstrapError('name a CUDA build of torch: npm run check:cuda -- --libtorch PATH');
  if (!existsSync(join(root, 'dist/native.js'))) await bootstrap({ addon: false });
  const { inspectLibtorch } = await import('../dist/libtorch/inspect.js');
  const { buildAddon, builtAddon } = await import('../dist/native/build.js');
  const found = inspectLibtorch(libtorch, { headers: true });
  if (!found.hasCuda) throw new BootstrapError(`${libtorch} has no CUDA libraries`);

  // A copy of the sources beside the same packages, so that the build in this folder stays as it is.
  const copy = makeFolder();
  try {
    for (const name of ['native', 'CMakeLists.txt', 'package.json', 'dist']) {
      rmSync(join(copy, name), { recursive: true, force: true });
      cpSync(join(root, name), join(copy, name), { recursive: true, preserveTimestamps: true });
    }
    if (!existsSync(join(copy, 'node_modules')))
      symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    await buildAddon({ libtorch: found, cuda: true, root: copy, log: (line) => console.error(line) });
    if (!existsSync(builtAddon(copy))) throw new BootstrapError('no addon was built');
    const program = `import { loadAddon } from ${JSON.stringify(join(copy, 'dist/native.js'))};
      const { cuda } = loadAddon().systemInfo();
      if (!cuda.built) throw new Error('not the CUDA variant');
      console.log(JSON.stringify(cuda));`;
    return await run(process.execPath, ['--input-type=module', '-e', program], { cwd: copy });
  } finally {
    if (!keep) rmSync(copy, { recursive: true, force: true });
  }
}

main().then(
  (code) => (process.exitCode = code),
  (error) => (process.exitCode = report(error)),
);
