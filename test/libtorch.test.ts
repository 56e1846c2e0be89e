/** Finding and judging libtorch: order, versions, architectures, half-written caches. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { InstallError } from '#fornax/errors.js';
import { requireSpace } from '#fornax/libtorch/cache.js';
import { cudaFolders } from '#fornax/libtorch/cuda_headers.js';
import { readElf } from '#fornax/libtorch/elf.js';
import { commit, fetchProblem } from '#fornax/libtorch/fetch.js';
import { checkHost, hasNvidiaGpu, type Host } from '#fornax/libtorch/host.js';
import { baseVersion, headerVersion, inspectLibtorch, isSupportedVersion } from '#fornax/libtorch/inspect.js';
import { loadOrder } from '#fornax/libtorch/libraries.js';
import { cacheFolder, locateLibtorch } from '#fornax/libtorch/locate.js';
import { isComplete } from '#fornax/libtorch/manifest.js';
import { elf, fakeLibtorch, temporaryFolder, thisMachine, writeTree } from './support/fake_libtorch.js';

const host: Host = { platform: 'linux', arch: process.arch, libc: 'glibc' };

/** An InstallError whose whole message (what, where, fix) matches every pattern. */
function install(...patterns: RegExp[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof InstallError, `not an InstallError: ${String(error)}`);
    assert.ok(error.fix, 'an installation error must say what to do');
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  };
}

describe('the machine', () => {
  it('is refused with a reason where libtorch does not exist', () => {
    const refuse = (change: Partial<Host>, ...patterns: RegExp[]): void =>
      assert.throws(() => checkHost({ ...host, ...change }), install(...patterns));
    refuse({ libc: 'musl' }, /musl/, /Debian|bookworm/);
    refuse({ arch: 'ia32' }, /ia32/, /64-bit/);
    refuse({ platform: 'darwin' }, /darwin/, /container/);
    checkHost({ platform: 'linux', arch: 'x64', libc: 'glibc' });
    checkHost({ platform: 'linux', arch: 'arm64', libc: 'glibc' });
  });

  it('has a GPU where the driver lists one, or where nvidia-smi and its device are there', () => {
    const root = temporaryFolder();
    assert.equal(hasNvidiaGpu({ PATH: join(root, 'bin') }, root), false);
    writeTree(root, { 'bin/nvidia-smi': '' });
    assert.equal(
      hasNvidiaGpu({ PATH: join(root, 'bin') }, root),
      false,
      'a program without a device is no GPU',
    );
    writeTree(root, { 'dev/nvidiactl': '' });
    assert.equal(hasNvidiaGpu({ PATH: join(root, 'bin') }, root), true);
    mkdirSync(join(root, 'proc/driver/nvidia/gpus/0000:01:00.0'), { recursive: true });
    assert.equal(hasNvidiaGpu({}, root), true);
  });
});

describe('reading ELF files', () => {
  it('gives machine, soname, NEEDED and RUNPATH', () => {
    const path = join(temporaryFolder(), 'lib.so');
    writeFileSync(
      path,
      elf({ machine: 183, soname: 'libx.so.1', needed: ['liba.so', 'libb.so.2'], runpath: '$ORIGIN:/b' }),
    );
    assert.deepEqual(readElf(path), {
      machine: 183,
      soname: 'libx.so.1',
      needed: ['liba.so', 'libb.so.2'],
      runpath: ['$ORIGIN', '/b'],
    });
  });

  it('reads the binary of Node.js itself', () => {
    const facts = readElf(process.execPath);
    assert.equal(facts.machine, thisMachine);
    assert.ok(facts.needed.includes('libc.so.6'));
  });

  it('says what a file is that is none', () => {
    const folder = temporaryFolder();
    writeTree(folder, { 'page.so': '<html>'.repeat(40), 'short.so': elf({ needed: ['x'] }).subarray(0, 80) });
    assert.throws(() => readElf(join(folder, 'page.so')), /not an ELF file/);
    assert.throws(() => readElf(join(folder, 'short.so')), /cut short/);
  });
});

describe('inspecting a libtorch', () => {
  it('knows version, CUDA line and headers', () => {
    const root = fakeLibtorch({ cuda: true });
    const found = inspectLibtorch(root, { headers: true, host });
    assert.equal(found.version, '2.14.1');
    assert.equal(found.cuda, '13.0');
    assert.equal(found.hasCuda, true);
    assert.equal(inspectLibtorch(fakeLibtorch(), { host }).hasCuda, false);
  });

  it('reads build-version where there is no version.py', () => {
    const root = fakeLibtorch({ version: '2.12.0' });
    rmSync(join(root, 'version.py'));
    writeTree(root, { 'build-version': '2.12.0+cu126\n' });
    assert.deepEqual(
      [inspectLibtorch(root, { host }).version, inspectLibtorch(root, { host }).cuda],
      ['2.12.0', '12.6'],
    );
  });

  it('refuses what is outside 2.11 to 2.15, naming both', () => {
    for (const version of ['1.13.1', '2.9.1', '2.10.0', '2.16.0', '3.0.0']) {
      assert.equal(isSupportedVersion(version), false, version);
      assert.throws(
        () => inspectLibtorch(fakeLibtorch({ version }), { host }),
        install(new RegExp(version.replaceAll('.', '\\.')), /2\.11 to 2\.15/, /FORNAX_LIBTORCH/),
      );
    }
    for (const version of ['2.11.0', '2.13.1', '2.15.3']) {
      assert.equal(inspectLibtorch(fakeLibtorch({ version }), { host }).version, version);
    }
    assert.equal(baseVersion('2.14.1+cu130'), '2.14.1');
  });

  it('refuses headers and libraries of different versions', () => {
    assert.throws(
      () => inspectLibtorch(fakeLibtorch({ version: '2.14.1', headers: '2.13.0' }), { host }),
      install(/headers and libraries are of different versions/, /2\.13\.0/, /2\.14\.1/),
    );
    const root = fakeLibtorch({ headers: null });
    assert.throws(() => inspectLibtorch(root, { headers: true, host }), install(/no headers/));
    assert.equal(inspectLibtorch(root, { host }).include, undefined, 'enough to run');
    assert.equal(headerVersion(join(root, 'include')), undefined);
  });

  it('refuses another architecture before anything is loaded', () => {
    const other = process.arch === 'x64' ? 183 : 62;
    const name = process.arch === 'x64' ? /arm64/ : /x64/;
    assert.throws(
      () => inspectLibtorch(fakeLibtorch({ machine: other }), { host }),
      install(name, /built for/),
    );
  });

  it('refuses incomplete and damaged folders', () => {
    assert.throws(
      () => inspectLibtorch('/nonexistent/torch', { host }),
      install(/libc10\.so is missing/, /nonexistent/),
    );
    const cut = fakeLibtorch();
    truncateSync(join(cut, 'lib/libtorch_cpu.so'), 30);
    assert.throws(() => inspectLibtorch(cut, { host }), install(/libtorch_cpu\.so is damaged/, /cut short/));
  });

  it('lists the libraries to open, dependencies first, those of the system left out', () => {
    const root = fakeLibtorch({ cuda: true });
    const names = (cuda: boolean) => {
      const { dependencies, roots } = loadOrder(inspectLibtorch(root, { host }), cuda);
      return [dependencies, roots].map((paths) => paths.map((path) => path.split('/').at(-1)));
    };
    assert.deepEqual(names(false), [
      ['libgomp.so.1', 'libcudart.so.13'],
      ['libc10.so', 'libtorch_cpu.so'],
    ]);
    assert.deepEqual(names(true)[1], ['libc10.so', 'libtorch_cpu.so', 'libtorch_cuda.so']);
  });

  it('names the pip package of a missing CUDA header', () => {
    const root = fakeLibtorch({ cuda: true });
    const found = inspectLibtorch(root, { host });
    const env = { CUDA_HOME: '/nonexistent', FORNAX_CACHE: temporaryFolder() };
    const headers = ['cuda_runtime_api.h', 'cublas_v2.h', 'cusparse.h', 'cusolverDn.h'];
    writeTree(join(root, '../nvidia/cu13/include'), Object.fromEntries(headers.map((name) => [name, ''])));
    assert.throws(
      () => cudaFolders(found, env),
      install(/crt\/host_defines\.h/, /nvidia-cuda-crt==13\.0\.\*/),
    );
    writeTree(join(root, '../nvidia/cu13/include'), { 'crt/host_defines.h': '' });
    assert.deepEqual(cudaFolders(found, env).include, [join(root, '../nvidia/cu13/include')]);
  });
});

describe('locating libtorch', () => {
  const nothing = { purpose: 'build', host, pythonTorch: () => undefined } as const;

  /** A complete fetched libtorch in an empty cache folder. */
  function cacheWith(version = '2.14.1'): NodeJS.ProcessEnv {
    const env = { FORNAX_CACHE: temporaryFolder() };
    const folder = cacheFolder('cpu', env, host);
    fakeLibtorch({ version }, `${folder}.new`);
    commit(`${folder}.new`, folder, 'cpu');
    return env;
  }

  it('prefers FORNAX_LIBTORCH, then LIBTORCH, then the cache, then Python', () => {
    const [first, second, python] = [fakeLibtorch(), fakeLibtorch(), fakeLibtorch()];
    const cache = cacheWith();
    const where = (env: NodeJS.ProcessEnv, pythonTorch: string | undefined = python): string | undefined =>
      locateLibtorch({ ...nothing, env, pythonTorch: () => pythonTorch }).found?.source;
    assert.equal(where({ ...cache, FORNAX_LIBTORCH: first, LIBTORCH: second }), 'FORNAX_LIBTORCH');
    assert.equal(where({ ...cache, LIBTORCH: second }), 'LIBTORCH');
    assert.equal(where(cache), "Fornax's cache (cpu)");
    assert.equal(where({ FORNAX_CACHE: temporaryFolder() }), "the active Python's torch");
    assert.equal(where({ FORNAX_CACHE: temporaryFolder() }, ''), undefined);
  });

  it('does not ask Python when something before it fits', () => {
    const pythonTorch = (): never => assert.fail('Python was asked');
    assert.ok(locateLibtorch({ ...nothing, env: cacheWith(), pythonTorch }).found);
    assert.ok(locateLibtorch({ ...nothing, env: { FORNAX_LIBTORCH: fakeLibtorch() }, pythonTorch }).found);
  });

  it('takes nothing that was not fetched where FORNAX_LIBTORCH_SOURCE=fetch', () => {
    const pythonTorch = (): never => assert.fail('Python was asked');
    const only = { FORNAX_LIBTORCH_SOURCE: 'fetch' };
    const empty = { ...only, FORNAX_CACHE: temporaryFolder() };
    assert.equal(locateLibtorch({ ...nothing, env: empty, pythonTorch }).found, undefined);
    const { found } = locateLibtorch({ ...nothing, env: { ...only, ...cacheWith() }, pythonTorch });
    assert.equal(found?.source, "Fornax's cache (cpu)");
    assert.throws(
      () => locateLibtorch({ ...nothing, env: { ...empty, FORNAX_LIBTORCH_SOURCE: 'cache' } }),
      install(/FORNAX_LIBTORCH_SOURCE is "cache"; it may be fetch or auto/),
    );
  });

  it('fails when a named place cannot be used, instead of taking another', () => {
    assert.throws(
      () => locateLibtorch({ ...nothing, env: { ...cacheWith(), FORNAX_LIBTORCH: '/nonexistent' } }),
      install(/FORNAX_LIBTORCH is set/, /libc10\.so is missing/),
    );
    assert.throws(
      () => locateLibtorch({ ...nothing, env: { LIBTORCH: fakeLibtorch({ version: '2.9.0' }) } }),
      install(/LIBTORCH is set/, /2\.9\.0/),
    );
  });

  it("passes over a Python's torch that does not fit and says why", () => {
    const python = fakeLibtorch({ version: '2.8.0' });
    const env = { FORNAX_CACHE: temporaryFolder() };
    const { found, attempts } = locateLibtorch({ ...nothing, env, pythonTorch: () => python });
    assert.equal(found, undefined);
    assert.match(attempts.at(-1)?.reason ?? '', /2\.8\.0/);
  });

  it('does not use a half-written cache', () => {
    const env = cacheWith();
    const folder = cacheFolder('cpu', env, host);
    truncateSync(join(folder, 'torch/lib/libtorch_cpu.so'), 100);
    assert.equal(isComplete(folder), false);
    assert.equal(locateLibtorch({ ...nothing, env }).found, undefined);

    const other = cacheWith();
    rmSync(join(cacheFolder('cpu', other, host), 'fornax-libtorch.json'));
    assert.equal(
      locateLibtorch({ ...nothing, env: other }).found,
      undefined,
      'no list of files: never finished',
    );
  });

  it('runs an addon only with the version it was built against', () => {
    const env = { FORNAX_LIBTORCH: fakeLibtorch({ version: '2.13.0' }) };
    assert.throws(
      () => locateLibtorch({ ...nothing, purpose: 'run', version: '2.14.1', env }),
      install(/2\.13\.0/, /built against 2\.14\.1/, /fornax build --libtorch/),
    );
  });

  it('takes a libtorch with CUDA where CUDA is asked for', () => {
    const env = cacheWith();
    const python = fakeLibtorch({ cuda: true });
    const found = locateLibtorch({ ...nothing, env, cuda: true, pythonTorch: () => python }).found;
    assert.equal(found?.source, "the active Python's torch");
    assert.throws(
      () => locateLibtorch({ ...nothing, cuda: true, env: { FORNAX_LIBTORCH: fakeLibtorch() } }),
      install(/CPU-only/, /--cpu/),
    );
  });
});

describe('the cache folder', () => {
  it('is replaced as a whole when it is repaired', () => {
    const folder = join(temporaryFolder(), 'libtorch');
    writeTree(folder, { 'torch/lib/libc10.so': 'half', 'torch/leftover': 'x' });
    fakeLibtorch({}, `${folder}.new`);
    commit(`${folder}.new`, folder, 'cpu');
    assert.equal(isComplete(folder, { thorough: true }), true);
    assert.equal(existsSync(join(folder, 'torch/leftover')), false);
    writeFileSync(join(folder, 'torch/include/ATen/ATen.h'), 'changed');
    assert.equal(isComplete(folder), true, 'headers are not looked at on every start');
    assert.equal(isComplete(folder, { thorough: true }), false);
  });

  it('must have room', () => {
    assert.throws(
      () => requireSpace('/somewhere', 2 ** 30, 'libtorch', 2 ** 29),
      install(/1\.0 GiB/, /0\.5 GiB/, /FORNAX_CACHE/),
    );
    requireSpace('/somewhere', 2 ** 30, 'libtorch', 2 ** 30);
  });
});

describe('failures of a fetch', () => {
  it('each come with their own remedy', () => {
    const cases: [string, RegExp[]][] = [
      ['no-pip', [/pip, which is missing/, /python3-pip/]],
      ['network', [/cannot be reached/, /PIP_CERT/, /FORNAX_LIBTORCH/]],
      ['no-version', [/offers no torch 2\.14\.1/, /PIP_INDEX_URL/]],
      ['no-space', [/no space/, /FORNAX_CACHE/]],
      ['damaged', [/damaged/, /mirror/]],
      ['glibc', [/detail/, /Debian 12/]],
      ['whatever', [/could not be fetched: detail/]],
    ];
    for (const [kind, patterns] of cases) install(...patterns)(fetchProblem(kind, 'detail'));
  });

  it('are all known to the script that fetches', () => {
    const scripts = ['fetch_libtorch.py', 'remote_wheel.py', 'user_pip.py'];
    const script = scripts
      .map((name) => readFileSync(new URL(`../../../scripts/${name}`, import.meta.url), 'utf8'))
      .join();
    const kinds = new Set(
      [...script.matchAll(/(?:FetchError\(|error=)"([a-z-]+)"/g)].map((match) => match[1]!),
    );
    assert.ok(kinds.size >= 7);
    const generic = fetchProblem('unknown', 'detail').what;
    for (const kind of kinds) {
      if (kind === 'pip' || kind === 'io') continue; // any other failure, in the words of pip or the system
      assert.notEqual(fetchProblem(kind, 'detail').what, generic, kind);
    }
  });
});
