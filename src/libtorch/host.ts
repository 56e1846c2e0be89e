/** What kind of machine this is: platform, C library, GPU driver. Injectable, so that tests can pretend. */
import { existsSync, readdirSync } from 'node:fs';
import { arch, platform } from 'node:os';
import { delimiter, join } from 'node:path';
import { InstallError } from '../errors.js';

export interface Host {
  platform: string;
  /** Node's name: `x64`, `arm64`. */
  arch: string;
  libc: 'glibc' | 'musl' | 'unknown';
}

/** The C library Node itself was linked to: that is the one every addon must fit. */
function detectLibc(): Host['libc'] {
  const report = process.report as unknown as {
    excludeNetwork?: boolean;
    getReport(): { header?: { glibcVersionRuntime?: string }; sharedObjects?: string[] };
  };
  if (existsSync('/etc/alpine-release')) return 'musl';
  // ld-musl beside a glibc Node (a Debian with musl-tools) is harmless, so ask the running process.
  if (existsSync('/lib/ld-linux-x86-64.so.2') || existsSync('/lib64/ld-linux-x86-64.so.2')) return 'glibc';
  if (existsSync('/lib/ld-linux-aarch64.so.1')) return 'glibc';
  report.excludeNetwork = true;
  const facts = report.getReport();
  if (facts.header?.glibcVersionRuntime) return 'glibc';
  return facts.sharedObjects?.some((file) => file.includes('ld-musl')) ? 'musl' : 'unknown';
}

export function currentHost(): Host {
  return { platform: platform(), arch: arch(), libc: platform() === 'linux' ? detectLibc() : 'unknown' };
}

/** ELF machine numbers of the architectures Node can name (elf.h, EM_*). */
export const ELF_MACHINES: Record<string, number> = { x64: 62, arm64: 183, ia32: 3, arm: 40, riscv64: 243 };

export function machineName(machine: number): string {
  const found = Object.entries(ELF_MACHINES).find(([, number]) => number === machine);
  return found ? found[0] : `ELF machine ${machine}`;
}

/**
 * libtorch exists for Linux with glibc on x86-64 and arm64 as far as Fornax is concerned.
 * @throws InstallError for any other machine
 */
export function checkHost(host: Host = currentHost()): void {
  if (host.platform !== 'linux') {
    throw new InstallError({
      what: `Fornax runs on Linux; this is ${host.platform}`,
      fix: 'use a Linux machine, a container, or WSL 2 on Windows',
    });
  }
  if (host.libc === 'musl') {
    throw new InstallError({
      what: 'this system uses the musl C library (Alpine Linux?), and libtorch is built for glibc only',
      fix: 'use a Debian or Ubuntu based system or image, for example node:20-bookworm instead of node:20-alpine',
    });
  }
  if (host.arch !== 'x64' && host.arch !== 'arm64') {
    throw new InstallError({
      what: `Fornax supports the architectures x64 and arm64; this Node.js is built for ${host.arch}`,
      fix: 'install a 64-bit Node.js (`node -p process.arch` must print x64 or arm64)',
    });
  }
}

/** Whether an NVIDIA driver is installed, without running anything of it. */
export function hasNvidiaGpu(env: NodeJS.ProcessEnv = process.env, root = '/'): boolean {
  const nodes = join(root, 'proc/driver/nvidia/gpus');
  if (existsSync(nodes) && readdirSync(nodes).length > 0) return true;
  if (existsSync(join(root, 'dev/nvidiactl')) || existsSync(join(root, 'dev/dxg'))) {
    return (env.PATH ?? '').split(delimiter).some((dir) => dir && existsSync(join(dir, 'nvidia-smi')));
  }
  return false;
}
