/** `fornax doctor`: what it finds, what it advises, and its exit code. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { describe, it } from 'node:test';
import { InstallError } from '#fornax/errors.js';
import { cpuQuota, examine, realProbes, supportsNode, type Probes } from '#fornax/doctor/examine.js';
import { listOptimisations } from '#fornax/doctor/optimisations.js';
import { formatReport } from '#fornax/doctor/print.js';
import type { DoctorReport } from '#fornax/doctor/report.js';
import { loadAddon } from '#fornax/native.js';
import type { SystemInfo } from '#fornax/native/contract.js';
import { fornax } from './support/cli.js';
import { temporaryFolder, writeTree } from './support/fake_libtorch.js';

const cpuOnly: SystemInfo = {
  torch_version: '2.14.1',
  torch_cuda: null,
  cpu_capability: 'AVX512',
  cpu_features: {
    avx2: true,
    avx512: true,
    avx512_bf16: true,
    avx512_vnni: true,
    amx_bf16: false,
    amx_int8: false,
  },
  threads: 2,
  interop_threads: 2,
  mkldnn: true,
  mkl: true,
  openmp: true,
  cpu_allocator: 'caching',
  cuda: {
    built: false,
    available: false,
    reason: 'the addon is the CPU variant',
    driver: null,
    runtime: null,
    cudnn: null,
    devices: [],
  },
};

function gpu(capability: string, change: Partial<SystemInfo['cuda']> = {}): SystemInfo {
  const device = {
    name: 'NVIDIA Test',
    memory: 80 * 2 ** 30,
    free: 79 * 2 ** 30,
    capability,
    multiprocessors: 100,
  };
  const cuda = {
    built: true,
    available: true,
    reason: null,
    driver: '580.1',
    runtime: '13.0',
    cudnn: '9.24.0',
  };
  return { ...cpuOnly, torch_cuda: '13.0', cuda: { ...cuda, devices: [device], ...change } };
}

function probes(change: Partial<Probes> = {}, info = cpuOnly): Probes {
  const libtorch = {
    root: '/x/torch',
    lib: '/x/torch/lib',
    include: undefined,
    version: '2.14.1',
    cuda: '13.0',
    hasCuda: false,
  };
  const sidecar = {
    torch: '2.14.1',
    napi: 8,
    abi: 'cxx11',
    cuda: info.torch_cuda,
    platform: 'linux',
    arch: 'x64',
    libtorch: '/x/torch',
    builder: '0.1.0',
    sources: 'abc',
  } as const;
  return {
    host: () => ({ platform: 'linux', arch: 'x64', libc: 'glibc' }),
    nodeVersion: '22.12.0',
    native: () => ({
      info,
      from: { addon: '/x/fornax.node', sidecar, libtorch, source: 'FORNAX_LIBTORCH' },
      seconds: 0.2,
    }),
    current: () => true,
    nvidia: () => false,
    toolchain: () => ({ cmake: '3.25.1', compiler: 'g++', ninja: true }),
    python: () => '3.11.7',
    env: { FORNAX_CACHE: temporaryFolder() },
    free: () => 2 ** 40,
    writable: () => true,
    quota: () => null,
    ...change,
  };
}

const problems = (report: DoctorReport): string[] =>
  report.problems.map((p) => `${p.severity}: ${p.what} -> ${p.fix}`);

describe('the report', () => {
  it('is good where nothing is wrong', () => {
    const report = examine(probes());
    assert.equal(report.ok, true);
    assert.deepEqual(report.problems, []);
    assert.match(formatReport(report), /Fornax works here\.\n$/);
  });

  it('is bad where something required is broken, with the remedy', () => {
    const native = (): never => {
      throw new InstallError({ what: 'the native addon is not built', fix: 'npx fornax build' });
    };
    const report = examine(probes({ native }));
    assert.equal(report.ok, false);
    assert.deepEqual(problems(report), ['required: the native addon is not built -> npx fornax build']);
    assert.match(formatReport(report), /PROBLEM: the native addon is not built\n {2}fix: npx fornax build/);

    assert.equal(examine(probes({ nodeVersion: '18.20.0' })).ok, false);
    const musl = examine(probes({ host: () => ({ platform: 'linux', arch: 'x64', libc: 'musl' }) }));
    assert.equal(musl.ok, false);
    assert.match(problems(musl)[0]!, /required: .*musl/);
  });

  it('advises where things could be better, and stays good', () => {
    const advised = (change: Partial<Probes>, pattern: RegExp, info?: SystemInfo): void => {
      const report = examine(probes(change, info));
      assert.equal(report.ok, true);
      assert.equal(report.problems.length, 1);
      assert.match(problems(report)[0]!, pattern);
    };
    advised({ nvidia: () => true }, /advice: .*CPU variant -> npx fornax build --cuda/);
    advised({ current: () => false }, /advice: .*sources have changed.* -> npm run build/);
    advised({ quota: () => 1 }, /advice: .*allowed 1 CPUs.* -> set OMP_NUM_THREADS=1/);
    advised({ free: () => 2 ** 20 }, /advice: less than 1 GiB/);
    advised({ writable: () => false }, /advice: .*cannot be written/);
    advised(
      {},
      /advice: the addon has CUDA.*no NVIDIA driver/,
      gpu('9.0', { available: false, reason: 'no NVIDIA driver is installed', devices: [] }),
    );
  });

  it('mentions missing tools only where the addon must be built', () => {
    const toolchain = (): never => {
      throw new InstallError({ what: 'no C++ compiler is installed', fix: 'apt' });
    };
    assert.deepEqual(examine(probes({ toolchain })).problems, []);
    const native = (): never => {
      throw new InstallError({ what: 'the native addon is not built', fix: 'npx fornax build' });
    };
    assert.match(problems(examine(probes({ toolchain, native })))[1]!, /no C\+\+ compiler/);
  });

  it('lets errors through that are not about the installation', () => {
    assert.throws(
      () =>
        examine(
          probes({
            native: () => {
              throw new TypeError('a bug');
            },
          }),
        ),
      TypeError,
    );
  });
});

describe('the optimisations', () => {
  const table = (info: SystemInfo): Record<string, boolean> =>
    Object.fromEntries(listOptimisations(info).map(({ name, available }) => [name, available]));
  const reason = (info: SystemInfo, name: string): string =>
    listOptimisations(info).find((o) => o.name === name)!.reason;

  it('on a CPU are bf16 where it has the instructions, channels-last and int8', () => {
    assert.deepEqual(table(cpuOnly), {
      'AMP fp16': false,
      'AMP bf16': true,
      'cuDNN benchmark': false,
      TF32: false,
      'channels-last': true,
      'CUDA graphs': false,
      'pinned memory': false,
      int8: true,
    });
    assert.match(reason(cpuOnly, 'TF32'), /CPU variant/);
    const old = {
      ...cpuOnly,
      cpu_features: { ...cpuOnly.cpu_features, avx512_bf16: false, avx512_vnni: false },
    };
    assert.equal(table(old)['AMP bf16'], false);
    assert.match(reason(old, 'int8'), /reduced range/);
    const ancient = { ...old, cpu_features: { ...old.cpu_features, avx2: false } };
    assert.equal(table(ancient).int8, false);
  });

  it('on a GPU depend on its compute capability', () => {
    assert.ok(Object.values(table(gpu('9.0'))).every(Boolean));
    const turing = table(gpu('7.5'));
    assert.deepEqual([turing['AMP fp16'], turing.TF32, turing['CUDA graphs']], [true, false, true]);
    assert.match(reason(gpu('7.5'), 'TF32'), /8\.0 \(Ampere\).*7\.5/);
    assert.equal(table(gpu('9.0', { cudnn: null }))['cuDNN benchmark'], false);
  });
});

describe('what the machine reports', () => {
  it('agrees with the kernel on instruction sets', { skip: process.arch !== 'x64' && 'x86-64 only' }, () => {
    const flags = new Set(/^flags\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))![1]!.split(' '));
    const { cpu_features: features } = loadAddon().systemInfo();
    assert.deepEqual(features, {
      avx2: flags.has('avx2'),
      avx512: ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl'].every((name) => flags.has(name)),
      avx512_bf16: flags.has('avx512_bf16'),
      avx512_vnni: flags.has('avx512_vnni'),
      amx_bf16: flags.has('amx_bf16'),
      amx_int8: flags.has('amx_int8'),
    });
  });

  it('reads the limit of a container', () => {
    const folder = writeTree(temporaryFolder(), { limited: '150000 100000\n', free: 'max 100000\n' });
    assert.equal(cpuQuota(`${folder}/limited`), 1.5);
    assert.equal(cpuQuota(`${folder}/free`), null);
    assert.equal(cpuQuota(`${folder}/absent`), null);
  });

  it('knows which Node.js is supported', () => {
    assert.deepEqual(['18.20.0', '20.18.9', '20.19.0', '26.0.0'].map(supportsNode), [
      false,
      false,
      true,
      true,
    ]);
    assert.equal(realProbes.nodeVersion, process.versions.node);
  });
});

describe('fornax doctor', () => {
  it('prints one JSON object and exits with 0 here', async () => {
    const result = await fornax(['doctor', '--json']);
    assert.equal(result.code, 0, result.stdout + result.stderr);
    const report = JSON.parse(result.stdout) as DoctorReport;
    assert.equal(report.ok, true);
    assert.equal(report.addon.ok, true);
    assert.equal(report.libtorch?.version, report.addon.torch);
    assert.equal(report.optimisations.length, 8);
  });

  it('counts the threads that computing gets, not those of the script', async () => {
    const threadsOf = async (env: Record<string, string>): Promise<number> => {
      const { stdout } = await fornax(['doctor', '--json'], { env });
      return Number(/"threads":(\d+)/.exec(stdout)![1]);
    };
    assert.equal(await threadsOf({ OMP_NUM_THREADS: '1', MKL_NUM_THREADS: '1' }), 1);
    if (availableParallelism() > 1) {
      assert.equal(await threadsOf({ OMP_NUM_THREADS: '2', MKL_NUM_THREADS: '2', MKL_DYNAMIC: 'FALSE' }), 2);
    }
  });

  it('exits with 1 where libtorch cannot be used', async () => {
    const result = await fornax(['doctor', '--json'], { env: { FORNAX_LIBTORCH: '/nonexistent' } });
    assert.equal(result.code, 1);
    const report = JSON.parse(result.stdout) as DoctorReport;
    assert.match(problems(report)[0]!, /required: .*FORNAX_LIBTORCH/);
  });
});
