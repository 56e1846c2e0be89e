/** The addon: found, described, tried in a child process, loaded, and what is said when one of it fails. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { addonPaths, describeFailure, loadAddon, loadedFrom } from '#fornax/native.js';
import { sourcesHash, upToDate } from '#fornax/native/build.js';
import { commit } from '#fornax/libtorch/fetch.js';
import { cacheFolder } from '#fornax/libtorch/locate.js';
import { loadOrder } from '#fornax/libtorch/libraries.js';
import type { OpenRequest } from '#fornax/native/open_addon.js';
import { readSidecar, sidecarPath } from '#fornax/native/sidecar.js';
import { remedyFor, verifyAddon } from '#fornax/native/verify.js';
import { fakeLibtorch, temporaryFolder, writeTree } from './support/fake_libtorch.js';
import { install } from './support/install_error.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

describe('the addon', () => {
  it('loads, in this thread and in a worker', async () => {
    assert.equal(typeof loadAddon().systemInfo, 'function');
    assert.equal(loadAddon(), loadAddon(), 'once per thread');
    const program = `import { loadAddon } from ${JSON.stringify(join(root, 'dist/native.js'))};
      import { parentPort } from 'node:worker_threads';
      parentPort.postMessage(loadAddon().systemInfo().torch_version);`;
    const folder = writeTree(temporaryFolder(), { 'program.mjs': program });
    const worker = new Worker(join(folder, 'program.mjs'));
    const version = await new Promise((done, failed) => worker.once('message', done).once('error', failed));
    assert.equal(version, loadedFrom().sidecar.torch);
    await worker.terminate();
  });

  it('throws the classes of src/errors.ts', () => {
    const { Tensor } = loadAddon();
    const classes = import.meta.resolve('#fornax/errors.js');
    assert.ok(classes);
    assert.throws(() => Tensor.call('aten::no_such_operator', []), { name: /Error$/, code: /^FORNAX_/ });
  });

  it('describes itself before it is opened', () => {
    const { addon, loader } = addonPaths();
    const sidecar = readSidecar(addon);
    assert.equal(sidecar.arch, process.arch);
    assert.match(sidecar.torch, /^2\.1[1-5]\.\d+$/);
    assert.equal(sidecar.napi, 8);
    assert.notEqual(addon, loader);
  });

  it('is not trusted without its description', () => {
    const folder = writeTree(temporaryFolder(), { 'fornax.node': '' });
    const addon = join(folder, 'fornax.node');
    assert.throws(() => readSidecar(addon), install(/no description/, /fornax build/));
    writeFileSync(sidecarPath(addon), '{"torch": 2}');
    assert.throws(() => readSidecar(addon), install(/cannot be read/, /fornax build/));
  });

  it('is named with the command that builds it where it is missing', () => {
    assert.throws(() => addonPaths(temporaryFolder()), install(/not built/, /build/));
  });

  it('is out of date when the libtorch that was fetched for it is damaged', () => {
    const previous = process.env.FORNAX_CACHE;
    process.env.FORNAX_CACHE = temporaryFolder();
    try {
      const folder = cacheFolder('cpu');
      fakeLibtorch({}, `${folder}.new`);
      commit(`${folder}.new`, folder, 'cpu');
      const copy = temporaryFolder();
      for (const name of ['native', 'CMakeLists.txt'])
        cpSync(join(root, name), join(copy, name), { recursive: true });
      const sidecar = {
        ...readSidecar(addonPaths().addon),
        libtorch: join(folder, 'torch'),
        sources: sourcesHash(copy),
      };
      writeTree(copy, {
        'build/Release/fornax.node': '',
        'build/Release/fornax.json': JSON.stringify(sidecar),
        'build/loader/build/Release/fornax_loader.node': '',
      });
      assert.ok(upToDate(undefined, undefined, copy));
      truncateSync(join(folder, 'torch/lib/libgomp.so.1'), 10);
      assert.equal(upToDate(undefined, undefined, copy), undefined);
    } finally {
      if (previous === undefined) delete process.env.FORNAX_CACHE;
      else process.env.FORNAX_CACHE = previous;
    }
  });

  it('is out of date when a native source changes, and only then', () => {
    const copy = temporaryFolder();
    for (const name of ['native', 'CMakeLists.txt'])
      cpSync(join(root, name), join(copy, name), { recursive: true });
    const before = sourcesHash(copy);
    assert.equal(sourcesHash(copy), before);
    utimesSync(join(copy, 'native/addon.cc'), 1, 1);
    assert.equal(sourcesHash(copy), before, 'times do not count');
    writeFileSync(join(copy, 'native/notes.txt'), 'x');
    assert.equal(sourcesHash(copy), before, 'nor do other files');
    writeFileSync(join(copy, 'native/addon.cc'), '// x\n', { flag: 'a' });
    assert.notEqual(sourcesHash(copy), before);
  });
});

describe('trying an addon in a child process', () => {
  /** What really is loaded, with one part replaced. */
  function request(change: Partial<OpenRequest>) {
    const { loader, addon } = addonPaths();
    const { libtorch, sidecar } = loadedFrom();
    return { loader, addon, libraries: loadOrder(libtorch, sidecar.cuda !== null), ...change };
  }

  it('asks the child once and then remembers, until a file changes', () => {
    const env = { ...process.env, FORNAX_CACHE: temporaryFolder() };
    const folder = temporaryFolder();
    const addon = join(folder, 'fornax.node');
    cpSync(addonPaths().addon, addon);
    const asked = () => {
      const verdict = verifyAddon(request({ addon }), env);
      assert.equal(verdict.problem, undefined);
      return verdict.fresh;
    };
    assert.deepEqual([asked(), asked()], [true, false]);
    utimesSync(addon, 1, 1);
    assert.deepEqual([asked(), asked()], [true, false]);
  });

  it('gives the file, the reason and a remedy instead of the bare words of the dynamic linker', () => {
    const env = { ...process.env, FORNAX_CACHE: temporaryFolder() };
    const broken = writeTree(temporaryFolder(), { 'libbroken.so': 'not a library at all' });
    const verdict = verifyAddon(
      request({ libraries: { dependencies: [], roots: [join(broken, 'libbroken.so')] } }),
      env,
    );
    assert.match(verdict.problem ?? '', /libbroken\.so cannot be loaded: .*(invalid ELF|file too short)/);
    assert.ok(verdict.fix);
    assert.equal(existsSync(join(env.FORNAX_CACHE, 'verdicts')), false, 'a bad verdict is not kept');
  });

  it('survives a library that kills the process', () => {
    const folder = temporaryFolder();
    writeFileSync(
      join(folder, 'kill.cc'),
      '#include <csignal>\n__attribute__((constructor)) void die() { raise(SIGILL); }\n',
    );
    const compiled = spawnSync('c++', [
      '-shared',
      '-fPIC',
      '-o',
      join(folder, 'libkill.so'),
      join(folder, 'kill.cc'),
    ]);
    assert.equal(compiled.status, 0, 'the compiler that built the addon builds this, too');
    const env = { ...process.env, FORNAX_CACHE: temporaryFolder() };
    const verdict = verifyAddon(
      request({ libraries: { dependencies: [], roots: [join(folder, 'libkill.so')] } }),
      env,
    );
    assert.match(verdict.problem ?? '', /illegal instruction/);
    assert.match(verdict.fix ?? '', /built for this CPU/);
  });

  it('has a remedy for each of the dynamic linker’s usual messages', () => {
    const cases: [string, RegExp][] = [
      ['libcudart.so.13: cannot open shared object file: No such file or directory', /NVIDIA package/],
      ['libstdc++.so.6: cannot open shared object file', /libstdc\+\+6/],
      ['libfoo.so.1: cannot open shared object file', /libfoo\.so\.1/],
      ["/lib/libc.so.6: version `GLIBC_2.38' not found (required by x)", /GLIBC_2\.38[^]*Debian 12/],
      ['x.node: undefined symbol: _ZN2at', /fornax build/],
      ['failed to map segment from shared object', /noexec/],
    ];
    for (const [message, remedy] of cases) assert.match(remedyFor(message), remedy, message);
  });

  it('lists every place that was tried with its remedy', () => {
    const text = describeFailure(
      { torch: '2.14.1', cuda: null },
      [
        { source: 'the cache', path: undefined, reason: 'not there', fix: undefined },
        {
          source: 'Python',
          path: '/site/torch',
          reason: 'libtorch 2.9.0 is not supported',
          fix: 'install torch 2.14.1',
        },
      ],
      '/x/fornax.node',
    );
    assert.match(
      text.what,
      /Python \(\/site\/torch\): libtorch 2\.9\.0[^]*fix: install torch 2\.14\.1[^]*the cache: not there/,
    );
    assert.match(text.fix, /build/);
  });

  it('says so through the CLI when libtorch is gone, with exit code 1', () => {
    const cli = join(root, 'dist/cli/main.js');
    const env = { ...process.env, FORNAX_LIBTORCH: '/nonexistent' };
    const result = spawnSync(process.execPath, [cli, 'doctor'], { encoding: 'utf8', env });
    assert.equal(result.status, 1);
    assert.match(result.stdout, /PROBLEM: FORNAX_LIBTORCH is set[^]*libc10\.so is missing[^]*fix:/);
  });
});
