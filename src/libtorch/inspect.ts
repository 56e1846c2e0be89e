/** Looks at a folder that claims to be libtorch and says what it is, without loading anything. */
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { InstallError } from '../errors.js';
import { TORCH_NEWEST, TORCH_OLDEST, TORCH_PINNED } from '../version.js';
import { readElf } from './elf.js';
import { currentHost, ELF_MACHINES, machineName, type Host } from './host.js';

export interface Libtorch {
  /** The folder that holds lib/ (and include/). */
  root: string;
  lib: string;
  /** Absent where only the libraries were installed: enough to run, not to build. */
  include: string | undefined;
  /** `2.14.1`, without the local part. */
  version: string;
  /** The CUDA line its libraries were built for, `13.0`; null for a CPU-only build. */
  cuda: string | null;
  /** Whether libtorch_cuda.so is there (a CPU subset of a CUDA wheel has none). */
  hasCuda: boolean;
}

/** `2.14.1+cu130` → `2.14.1`. */
export function baseVersion(version: string): string {
  return version.split('+')[0]!.trim();
}

function minor(version: string): number {
  const [major, low] = version.split('.').map((part) => Number.parseInt(part, 10));
  return (major ?? 0) * 1000 + (low ?? 0);
}

export function isSupportedVersion(version: string): boolean {
  return minor(version) >= minor(TORCH_OLDEST) && minor(version) <= minor(TORCH_NEWEST);
}

/** TORCH_VERSION out of the headers. The file moved in 2.9 or so; both places are read. */
export function headerVersion(include: string): string | undefined {
  for (const file of ['torch/headeronly/version.h', 'torch/csrc/api/include/torch/version.h']) {
    const path = join(include, file);
    if (!existsSync(path)) continue;
    const found = /TORCH_VERSION\s*\\?\s*"([^"]+)"/.exec(readFileSync(path, 'utf8'));
    if (found) return baseVersion(found[1]!);
  }
  return undefined;
}

/** Version and CUDA line of the libraries: `version.py` of a wheel, `build-version` of a libtorch archive. */
function libraryVersion(root: string): { version: string; cuda: string | null } | undefined {
  const python = join(root, 'version.py');
  if (existsSync(python)) {
    const text = readFileSync(python, 'utf8');
    const version = /__version__\s*=\s*['"]([^'"]+)['"]/.exec(text)?.[1];
    if (version) return { version, cuda: /^cuda\b[^=]*=\s*['"]([^'"]+)['"]/m.exec(text)?.[1] ?? null };
  }
  const plain = join(root, 'build-version');
  if (existsSync(plain)) {
    const version = readFileSync(plain, 'utf8').trim();
    const tag = /\+cu(\d+)(\d)$/.exec(version);
    return { version, cuda: tag ? `${tag[1]}.${tag[2]}` : null };
  }
  return undefined;
}

const ELSE = 'point FORNAX_LIBTORCH at a complete one, or unset it to let Fornax find or fetch libtorch';

/**
 * Checks that the folder holds complete libraries of one version, of this machine's architecture, in the supported
 * range. With `headers`, a build from source must be possible too.
 * @throws InstallError that says which of it fails
 */
export function inspectLibtorch(folder: string, options: { headers?: boolean; host?: Host } = {}): Libtorch {
  const host = options.host ?? currentHost();
  const root = existsSync(folder) ? realpathSync(resolve(folder)) : resolve(folder);
  const lib = join(root, 'lib');
  for (const name of ['libc10.so', 'libtorch_cpu.so']) {
    const path = join(lib, name);
    if (!existsSync(path)) {
      throw new InstallError({ what: `no libtorch there: lib/${name} is missing`, where: root, fix: ELSE });
    }
    let machine: number;
    try {
      machine = readElf(path).machine;
    } catch (cause) {
      const what = `lib/${name} is damaged: ${(cause as Error).message}`;
      throw new InstallError({ what, where: root, fix: ELSE, cause });
    }
    if (machine !== ELF_MACHINES[host.arch]) {
      throw new InstallError({
        what: `this libtorch is built for ${machineName(machine)}, but this Node.js runs on ${host.arch}`,
        where: path,
        fix: `use a libtorch for ${host.arch}, or a Node.js for ${machineName(machine)}`,
      });
    }
  }
  const include = existsSync(join(root, 'include', 'ATen', 'ATen.h')) ? join(root, 'include') : undefined;
  if (options.headers && !include) {
    throw new InstallError({
      what: 'this libtorch has no headers (include/ATen/ATen.h), so the addon cannot be built against it',
      where: root,
      fix: ELSE,
    });
  }
  const headers = include && headerVersion(include);
  const libraries = libraryVersion(root);
  const version = libraries ? baseVersion(libraries.version) : headers;
  if (!version) {
    throw new InstallError({
      what: 'the version of this libtorch cannot be read (neither version.py, build-version nor version.h)',
      where: root,
      fix: ELSE,
    });
  }
  if (headers && headers !== version) {
    throw new InstallError({
      what: `headers and libraries are of different versions: include/ is ${headers}, lib/ is ${version}`,
      where: root,
      fix: 'reinstall that libtorch into an empty folder, or point FORNAX_LIBTORCH at another one',
    });
  }
  if (!isSupportedVersion(version)) {
    throw new InstallError({
      what: `libtorch ${version} is not supported: Fornax needs ${TORCH_OLDEST} to ${TORCH_NEWEST}`,
      where: root,
      fix: `install torch ${TORCH_PINNED}, or unset FORNAX_LIBTORCH to let Fornax fetch it`,
    });
  }
  const hasCuda = existsSync(join(lib, 'libtorch_cuda.so'));
  return { root, lib, include, version, cuda: libraries?.cuda ?? null, hasCuda };
}

/** What tells one installed libtorch from another without reading 400 MB: path, size, time and inode. */
export function libtorchIdentity(libtorch: Libtorch): string {
  return ['libc10.so', 'libtorch_cpu.so', 'libtorch_cuda.so']
    .map((name) => fileIdentity(join(libtorch.lib, name)))
    .join('|');
}

export function fileIdentity(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat ? `${path}:${stat.size}:${Math.round(stat.mtimeMs)}:${stat.ino}` : `${path}:absent`;
}
