/** Finds and loads the native addon. Nothing else in the package opens it. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { errorClasses, FornaxError, InstallError } from './errors.js';
import { checkHost, currentHost } from './libtorch/host.js';
import type { Libtorch } from './libtorch/inspect.js';
import { loadOrder } from './libtorch/libraries.js';
import { libtorchCandidates, type Attempt } from './libtorch/locate.js';
import type { NativeAddon } from './native/contract.js';
import { openAddon, type OpenRequest } from './native/open_addon.js';
import { isClone, packageRoot } from './native/package_root.js';
import { readSidecar, type Sidecar } from './native/sidecar.js';
import { remedyFor, verifyAddon } from './native/verify.js';

export interface LoadedFrom {
  addon: string;
  sidecar: Sidecar;
  libtorch: Libtorch;
  /** Where libtorch was found: `FORNAX_LIBTORCH`, `Fornax's cache (cpu)`. */
  source: string;
}

let loaded: { addon: NativeAddon; from: LoadedFrom } | undefined;

/**
 * The native addon, loaded once per thread. Takes under half a second; the first time with new files a trial
 * process adds as much again.
 * @throws InstallError listing every cause that was tried, each with its remedy
 */
export function loadAddon(): NativeAddon {
  loaded ??= findAndLoad();
  return loaded.addon;
}

/** Where the loaded addon and its libtorch lie; loads it if it is not. @throws as `loadAddon` */
export function loadedFrom(): LoadedFrom {
  loaded ??= findAndLoad();
  return loaded.from;
}

/** The command that builds the addon here. */
function buildCommand(): string {
  return isClone() ? 'npm run build' : 'npx fornax build';
}

/** Paths of the two addons by node-gyp-build's rules. @throws InstallError if one is missing */
export function addonPaths(root = packageRoot): { addon: string; loader: string } {
  const require = createRequire(import.meta.url);
  const nodeGypBuild = require('node-gyp-build') as { resolve(dir: string): string };
  const resolve = (dir: string): string | undefined => {
    try {
      return nodeGypBuild.resolve(dir);
    } catch {
      return undefined;
    }
  };
  const addon = resolve(root);
  // node-gyp-build takes the first *.node of a folder, so the loader lies in folders of its own.
  const loader = [join(root, 'build', 'loader'), join(root, 'native', 'loader')]
    .filter((dir) => existsSync(dir))
    .map(resolve)
    .find((path) => path !== undefined && path !== addon);
  if (addon === undefined || loader === undefined) {
    throw new InstallError({
      what: `the native addon is not built for ${process.platform}-${process.arch}`,
      where: join(root, 'build', 'Release'),
      fix: buildCommand(),
    });
  }
  return { addon, loader };
}

function findAndLoad(): { addon: NativeAddon; from: LoadedFrom } {
  checkHost();
  const { addon, loader } = addonPaths();
  const sidecar = readSidecar(addon);
  if (sidecar.arch !== currentHost().arch || sidecar.platform !== process.platform) {
    throw new InstallError({
      what: `the addon is built for ${sidecar.platform}-${sidecar.arch}, but this is ${process.platform}-${process.arch}`,
      where: addon,
      fix: buildCommand(),
    });
  }
  const attempts: Attempt[] = [];
  const wanted = {
    purpose: 'run',
    version: sidecar.torch,
    cuda: sidecar.cuda !== null,
    builtAgainst: sidecar.libtorch,
  } as const;
  for (const { source, libtorch } of libtorchCandidates(wanted, attempts)) {
    const opened = tryOpen(addon, loader, libtorch, wanted.cuda);
    if ('addon' in opened) {
      opened.addon.setErrorClasses?.(errorClasses);
      return { addon: opened.addon, from: { addon, sidecar, libtorch, source } };
    }
    attempts.push({ source, path: libtorch.root, reason: opened.problem, fix: opened.fix });
  }
  throw new InstallError(describeFailure(sidecar, attempts, addon));
}

function tryOpen(
  addon: string,
  loader: string,
  libtorch: Libtorch,
  cuda: boolean,
): { addon: NativeAddon } | { problem: string; fix: string | undefined } {
  try {
    const request: OpenRequest = { loader, addon, libraries: loadOrder(libtorch, cuda) };
    const verdict = verifyAddon(request);
    if (verdict.problem) return { problem: verdict.problem, fix: verdict.fix };
    return { addon: openAddon(request) };
  } catch (error) {
    if (error instanceof FornaxError) return { problem: error.what, fix: error.fix };
    const message = (error as Error).message;
    return { problem: message, fix: remedyFor(message) };
  }
}

/** One line per cause with its remedy, the ones that found something first. */
export function describeFailure(
  sidecar: Pick<Sidecar, 'torch' | 'cuda'>,
  attempts: Attempt[],
  addon: string,
): { what: string; where: string; fix: string } {
  const ordered = [...attempts].sort((a, b) => Number(a.path === undefined) - Number(b.path === undefined));
  const lines = ordered.map(
    (attempt) =>
      `  - ${attempt.source}${attempt.path ? ` (${attempt.path})` : ''}: ${attempt.reason}` +
      (attempt.fix ? `\n      fix: ${attempt.fix}` : ''),
  );
  const kind = `libtorch ${sidecar.torch}${sidecar.cuda ? ' with CUDA' : ''}`;
  return {
    what: `the native addon needs ${kind}, and none that works was found; tried:\n${lines.join('\n')}`,
    where: addon,
    fix: `${buildCommand()} finds or fetches libtorch and builds the addon for it; fornax doctor shows details`,
  };
}
