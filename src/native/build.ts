/** Builds the native addon with cmake-js, when its sources or libtorch changed, and puts it where it is found. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { InstallError } from '../errors.js';
import { withLock } from '../io/lock.js';
import { completeCudaHeaders, cudaFolders } from '../libtorch/cuda_headers.js';
import { checkHost, currentHost } from '../libtorch/host.js';
import type { Libtorch } from '../libtorch/inspect.js';
import { isFetched } from '../libtorch/locate.js';
import { isComplete } from '../libtorch/manifest.js';
import { packageRoot } from './package_root.js';
import { readSidecar, sidecarPath, type Sidecar } from './sidecar.js';
import { checkToolchain } from './toolchain.js';

/** Node-API version compiled for: 8 is in every Node from 12.22, 14.17, 15.12 on. */
export const NAPI_VERSION = 8;

/** Where a build from source leaves the addon; node-gyp-build looks there first. */
export function builtAddon(root = packageRoot): string {
  return join(root, 'build', 'Release', 'fornax.node');
}

/** Apart from the addon: node-gyp-build takes the first *.node of a folder. */
export function builtLoader(root = packageRoot): string {
  return join(root, 'build', 'loader', 'build', 'Release', 'fornax_loader.node');
}

/** SHA-256 over names and contents of everything the addon is compiled from. */
export function sourcesHash(root = packageRoot): string {
  const hash = createHash('sha256');
  const walk = (dir: string): string[] =>
    readdirSync(dir, { withFileTypes: true })
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => (entry.isDirectory() ? walk(join(dir, entry.name)) : [join(dir, entry.name)]));
  const native = walk(join(root, 'native')).filter((file) => /\.(cc|h)$/.test(file));
  for (const file of [...native, join(root, 'CMakeLists.txt')]) {
    hash.update(relative(root, file)).update('\0').update(readFileSync(file)).update('\0');
  }
  return hash.digest('hex');
}

export interface BuildOptions {
  libtorch: Libtorch;
  cuda: boolean;
  root?: string;
  log: (line: string) => void;
}

/** The sidecar of an addon built from the present sources against this libtorch, or undefined if it must be built. */
export function upToDate(
  libtorch: Libtorch | undefined,
  cuda: boolean | undefined,
  root = packageRoot,
): Sidecar | undefined {
  const addon = builtAddon(root);
  if (!existsSync(addon) || !existsSync(builtLoader(root)) || !existsSync(sidecarPath(addon)))
    return undefined;
  let sidecar: Sidecar;
  try {
    sidecar = readSidecar(addon);
  } catch {
    return undefined;
  }
  if (!sidecar.libtorch || !existsSync(join(sidecar.libtorch, 'lib', 'libtorch_cpu.so'))) return undefined;
  // A fetched libtorch of which something is missing must be fetched again before anything else.
  if (isFetched(sidecar.libtorch) && !isComplete(dirname(sidecar.libtorch))) return undefined;
  if (libtorch && (sidecar.libtorch !== libtorch.root || sidecar.torch !== libtorch.version))
    return undefined;
  if (cuda !== undefined && cuda !== (sidecar.cuda !== null)) return undefined;
  return sidecar.sources === sourcesHash(root) ? sidecar : undefined;
}

function run(command: string, args: string[], cwd: string): Promise<number> {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
    child.on('error', failed);
    child.on('exit', (code, signal) => done(signal ? 1 : (code ?? 1)));
  });
}

/** Copies and renames, so that a process that has the old one mapped keeps it. */
function place(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  const beside = `${to}.${process.pid}.new`;
  copyFileSync(from, beside);
  renameSync(beside, to);
}

/**
 * Incremental: compiles what changed. One build of a folder at a time.
 * @throws InstallError if the toolchain, libtorch or a source does not allow it
 */
export async function buildAddon(options: BuildOptions): Promise<Sidecar> {
  const { libtorch, cuda, log } = options;
  const root = options.root ?? packageRoot;
  checkHost();
  checkToolchain();
  const out = join(root, 'build-cmake');
  return withLock(
    join(out, '.fornax-build.lock'),
    async () => {
      const require = createRequire(import.meta.url);
      const cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
      if (cuda) completeCudaHeaders(libtorch, log);
      const cudaPaths = cuda ? cudaFolders(libtorch) : { include: [], lib: [] };
      const settings: Record<string, string> = {
        FORNAX_LIBTORCH: libtorch.root,
        FORNAX_CUDA: cuda ? 'ON' : 'OFF',
        FORNAX_CUDA_INCLUDE: cudaPaths.include.join(';'),
        FORNAX_CUDA_LIB: cudaPaths.lib.join(';'),
        FORNAX_NODE_ADDON_API: dirname(require.resolve('node-addon-api/package.json')),
        FORNAX_NODE_API_HEADERS: join(dirname(require.resolve('node-api-headers/package.json')), 'include'),
      };
      const stamp = JSON.stringify({ ...settings, torch: libtorch.version });
      const stampFile = join(out, '.fornax-configured');
      const configured = existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp;
      // Hashed before compiling: a source edited meanwhile makes the result out of date, not silently current.
      const sources = sourcesHash(root);
      const defines = Object.entries(settings).map(([key, value]) => `--CD${key}=${value}`);
      const common = ['-d', root, '-O', out, '-l', 'error', ...defines];

      if (!configured) {
        log(
          `Configuring the addon for libtorch ${libtorch.version}${cuda ? ' with CUDA' : ''} (${libtorch.root})`,
        );
        rmSync(stampFile, { force: true });
        if ((await run(process.execPath, [cmakeJs, 'configure', ...common], root)) !== 0) {
          throw new InstallError({
            what: 'CMake could not configure the addon; its own messages stand above',
            where: out,
            fix: `remove ${out} and try again; if it stays, the last lines above say what is missing`,
          });
        }
        writeFileSync(stampFile, stamp);
      }
      log('Compiling the addon (a few minutes the first time)');
      if ((await run(process.execPath, [cmakeJs, 'build', ...common], root)) !== 0) {
        throw new InstallError({
          what: "the addon does not compile; the compiler's messages stand above",
          where: out,
          fix: `if the sources are unchanged, remove ${out} and try again`,
        });
      }
      const sidecar: Sidecar = {
        torch: libtorch.version,
        napi: NAPI_VERSION,
        abi: 'cxx11',
        cuda: cuda ? (libtorch.cuda ?? 'unknown') : null,
        platform: process.platform,
        arch: currentHost().arch,
        libtorch: libtorch.root,
        builder: (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string })
          .version,
        sources,
      };
      const addon = builtAddon(root);
      rmSync(sidecarPath(addon), { force: true }); // never a new addon beside an old description
      place(join(out, 'fornax_loader.node'), builtLoader(root));
      place(join(out, 'fornax.node'), addon);
      writeFileSync(sidecarPath(addon), JSON.stringify(sidecar, null, 2) + '\n');
      return sidecar;
    },
    { onWait: (owner) => log(`Waiting for another build of this folder (${owner})`) },
  );
}
