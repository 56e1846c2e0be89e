/** Examines the machine and the installation. Every probe can be replaced, so that tests can break any of them. */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { spawnSync } from 'node:child_process';
import { FornaxError } from '../errors.js';
import { cacheDir } from '../io/cache_dir.js';
import { freeSpace } from '../libtorch/cache.js';
import { checkHost, currentHost, hasNvidiaGpu, type Host } from '../libtorch/host.js';
import { loadAddon, loadedFrom, type LoadedFrom } from '../native.js';
import { sourcesHash } from '../native/build.js';
import type { SystemInfo } from '../native/contract.js';
import { isClone, packageRoot } from '../native/package_root.js';
import { checkToolchain, type Toolchain } from '../native/toolchain.js';
import { listOptimisations } from './optimisations.js';
import type { DoctorReport, Problem } from './report.js';

export interface Probes {
  host(): Host;
  nodeVersion: string;
  /** Loads the addon. @throws FornaxError */
  native(): { info: SystemInfo; from: LoadedFrom; seconds: number };
  /** Whether the addon was built from the present sources; null outside a clone. */
  current(from: LoadedFrom): boolean | null;
  nvidia(): boolean;
  toolchain(): Toolchain;
  python(): string | null;
  env: NodeJS.ProcessEnv;
  free(path: string): number;
  /** Whether files can be made there, or in its nearest existing parent. */
  writable(path: string): boolean;
  quota(): number | null;
}

export const realProbes: Probes = {
  host: currentHost,
  nodeVersion: process.versions.node,
  native() {
    const started = performance.now();
    const addon = loadAddon();
    const seconds = (performance.now() - started) / 1000;
    return { info: addon.systemInfo(), from: loadedFrom(), seconds };
  },
  current: (from) => (isClone() ? sourcesHash() === from.sidecar.sources : null),
  nvidia: () => hasNvidiaGpu(),
  toolchain: () => checkToolchain(),
  python() {
    const answer = spawnSync(process.env.FORNAX_PYTHON ?? 'python3', ['--version'], { encoding: 'utf8' });
    return answer.status === 0 ? answer.stdout.trim().replace(/^Python /, '') : null;
  },
  env: process.env,
  free: freeSpace,
  writable: canWrite,
  quota: cpuQuota,
};

/** Version 2 of control groups: "max 100000" or "150000 100000" (allowed, of). */
export function cpuQuota(file = '/sys/fs/cgroup/cpu.max'): number | null {
  try {
    const [allowed, period] = readFileSync(file, 'utf8').trim().split(' ');
    return allowed === 'max' ? null : Number(allowed) / Number(period);
  } catch {
    return null;
  }
}

function osName(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux';
  } catch {
    return process.platform;
  }
}

function nearestExisting(path: string): string {
  let place = path;
  while (!existsSync(place) && dirname(place) !== place) place = dirname(place);
  return place;
}

function canWrite(path: string): boolean {
  try {
    accessSync(nearestExisting(path), constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export function supportsNode(version: string): boolean {
  const [major, minor] = version.split('.').map(Number);
  return major! > 20 || (major === 20 && minor! >= 19);
}

export function examine(probes: Probes = realProbes): DoctorReport {
  const problems: Problem[] = [];
  const required = (what: string, fix: string | null): void =>
    void problems.push({ severity: 'required', what, fix });
  const advice = (what: string, fix: string | null): void =>
    void problems.push({ severity: 'advice', what, fix });

  const host = probes.host();
  const nodeSupported = supportsNode(probes.nodeVersion);
  if (!nodeSupported) {
    required(
      `Node.js ${probes.nodeVersion} is too old: 20.19 or newer is needed`,
      'install a current LTS release',
    );
  }

  let native: ReturnType<Probes['native']> | undefined;
  try {
    checkHost(host);
    native = probes.native();
  } catch (error) {
    if (!(error instanceof FornaxError)) throw error;
    required(error.what, error.fix ?? null);
  }
  const current = native ? probes.current(native.from) : null;
  if (current === false) advice('the native sources have changed since the addon was built', 'npm run build');

  const nvidia = probes.nvidia();
  const info = native?.info;
  if (nvidia && info && !info.cuda.built) {
    advice('this machine has an NVIDIA driver, but the addon is the CPU variant', 'npx fornax build --cuda');
  } else if (info?.cuda.built && !info.cuda.available) {
    advice(
      `the addon has CUDA, but no GPU can be used: ${info.cuda.reason}`,
      'check nvidia-smi and the driver',
    );
  }

  const quota = probes.quota();
  if (info && quota !== null && info.threads > Math.ceil(quota)) {
    advice(
      `${info.threads} threads compute, but this container is allowed ${quota} CPUs' worth of time`,
      `set OMP_NUM_THREADS=${Math.max(1, Math.floor(quota))}`,
    );
  }

  const tools = examineTools(probes, !native, advice);
  const cache = examineCache(probes, advice);
  const from = native?.from;
  return {
    ok: !problems.some((problem) => problem.severity === 'required'),
    fornax: (JSON.parse(readFileSync(`${packageRoot}/package.json`, 'utf8')) as { version: string }).version,
    node: { version: probes.nodeVersion, path: process.execPath, supported: nodeSupported },
    system: { platform: host.platform, arch: host.arch, libc: host.libc, os: osName(), kernel: release() },
    addon: {
      ok: native !== undefined,
      path: from?.addon ?? null,
      variant: from ? (from.sidecar.cuda ? 'cuda' : 'cpu') : null,
      torch: from?.sidecar.torch ?? null,
      builder: from?.sidecar.builder ?? null,
      current,
      load_seconds: native ? Math.round(native.seconds * 1000) / 1000 : null,
    },
    libtorch: from
      ? {
          version: from.libtorch.version,
          path: from.libtorch.root,
          source: from.source,
          cuda: from.libtorch.cuda,
        }
      : null,
    cpu: {
      model: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      quota,
      memory: totalmem(),
      capability: info?.cpu_capability ?? null,
      features: info?.cpu_features ?? null,
      threads: info?.threads ?? null,
      interop_threads: info?.interop_threads ?? null,
      mkldnn: info?.mkldnn ?? null,
      mkl: info?.mkl ?? null,
      openmp: info?.openmp ?? null,
      allocator: info?.cpu_allocator ?? null,
    },
    cuda: info?.cuda ?? null,
    nvidia_driver: nvidia,
    optimisations: info ? listOptimisations(info) : [],
    tools,
    cache,
    problems,
  };
}

type Advise = (what: string, fix: string | null) => void;

/** Tools matter only to who builds from source: their absence is worth a word where the addon does not load. */
function examineTools(probes: Probes, needed: boolean, advice: Advise): DoctorReport['tools'] {
  const python = probes.python();
  try {
    const tools = probes.toolchain();
    return { cmake: tools.cmake, compiler: tools.compiler, ninja: tools.ninja, python };
  } catch (error) {
    if (!(error instanceof FornaxError)) throw error;
    if (needed) advice(error.what, error.fix ?? null);
    return { cmake: null, compiler: null, ninja: false, python };
  }
}

function examineCache(probes: Probes, advice: Advise): DoctorReport['cache'] {
  const path = cacheDir(probes.env.FORNAX_CACHE);
  const writable = probes.writable(path);
  if (!writable)
    advice(`the cache folder cannot be written: ${path}`, 'set FORNAX_CACHE to a folder of yours');
  let free: number | null = null;
  try {
    free = probes.free(path);
  } catch {
    // Some network file systems do not tell.
  }
  if (free !== null && free < 2 ** 30) {
    advice(`less than 1 GiB is free for the cache folder ${path}`, 'free some space, or set FORNAX_CACHE');
  }
  return { path, free, writable };
}
