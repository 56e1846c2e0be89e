/** Building, finding and loading the addon, and what is said when one of it fails. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { InstallError } from '#fornax/errors.js';
import { addonPaths, describeFailure, loadAddon, loadedFrom } from '#fornax/native.js';
import { sourcesHash, upToDate } from '#fornax/native/build.js';
import { commit } from '#fornax/libtorch/fetch.js';
import { cacheFolder } from '#fornax/libtorch/locate.js';
import { loadOrder } from '#fornax/libtorch/libraries.js';
import type { OpenRequest } from '#fornax/native/open_addon.js';
import { prepareAddon } from '#fornax/native/prepare.js';
import { readSidecar, sidecarPath } from '#fornax/native/sidecar.js';
import { checkToolchain } from '#fornax/native/toolchain.js';
import { remedyFor, verifyAddon } from '#fornax/native/verify.js';
import { fakeLibtorch, temporaryFolder, writeTree } from './support/fake_libtorch.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

interface Bootstrap {
  checkNode(version?: string): void;
  missingPackages(works: (command: string, args: string[]) => boolean): string[];
}
const bootstrap = (await import(
  new URL('../../../scripts/bootstrap.mjs', import.meta.url).href
)) as Bootstrap;

function install(...patterns: RegExp[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof InstallError, `not an InstallError: ${String(error)}`);
    assert.ok(error.fix, 'an installation error must say what to do');
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  };
}

/** A PATH with programs that print these first lines, and nothing else. */
function programs(lines: Record<string, string>): NodeJS.ProcessEnv {
  const folder = temporaryFolder();
  for (const [name, line] of Object.entries(lines)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${line}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return { PATH: folder };
}

const gcc = (version: string): string =>
  `case "$1" in -dumpversion) echo ${version};; *) echo "g++ (Debian) ${version}.2.0";; esac`;
const CMAKE = 'echo cmake version 3.25.1';

describe('bootstrapping', () => {
  it('refuses a Node.js that is too old, with the line that installs another', () => {
    assert.throws(() => bootstrap.checkNode('18.20.4'), /18\.20\.4 is too old.*20\.19[^]*nvm/);
    assert.throws(() => bootstrap.checkNode('20.18.3'), /too old/);
    for (const version of ['20.19.0', '22.1.0', '24.0.0']) bootstrap.checkNode(version);
  });

  it('names the Debian package behind each missing command', () => {
    const without = (...gone: string[]) =>
      bootstrap.missingPackages((command, args) => !gone.includes(args.includes('pip') ? 'pip' : command));
    assert.deepEqual(without(), []);
    assert.deepEqual(without('cmake'), ['cmake']);
    assert.deepEqual(without('pip'), ['python3-pip']);
    assert.deepEqual(without('c++', 'g++', 'clang++'), ['g++']);
    assert.deepEqual(without('c++'), [], 'another compiler will do');
    assert.deepEqual(without('ninja'), [], 'make will do');
    assert.deepEqual(without('ninja', 'make'), ['make', 'ninja-build']);
    assert.ok(without('python3').includes('python3'));
  });

  it('uses nothing but Node.js itself before the packages are installed', () => {
    for (const name of ['bootstrap.mjs', 'run.mjs', 'install.mjs']) {
      const source = readFileSync(join(root, 'scripts', name), 'utf8');
      const imports = [...source.matchAll(/^import .* from '([^']+)'/gm)].map((match) => match[1]!);
      assert.ok(imports.length > 0);
      for (const module of imports)
        assert.match(module, /^(node:|\.\/bootstrap)/, `${name} imports ${module}`);
    }
  });
});

describe('a command that a script runs', () => {
  /** Sends `signal` to the wrapper alone once the command is up; the command needs a moment to finish. */
  async function interrupted(signal: NodeJS.Signals, command: string) {
    const wrapper = `import { run } from ${JSON.stringify(join(root, 'scripts/bootstrap.mjs'))};
      process.exitCode = await run(process.execPath, ['-e', ${JSON.stringify(command)}]);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', wrapper], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (text.includes('up')) child.kill(signal);
    });
    const code = await new Promise((done) => child.on('close', done));
    return { code, output };
  }
  const finishing = (signal: string) =>
    `process.on('${signal}', () => setTimeout(() => { console.log('saved'); process.exit(43); }, 200));
     setTimeout(() => {}, 20000); console.log('up');`;

  it('gets the signals that only the script got, and is waited for', async () => {
    for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
      assert.deepEqual(await interrupted(signal, finishing(signal)), { code: 43, output: 'up\nsaved\n' });
    }
  });

  it('outlives a Ctrl-C that it got from the terminal itself', async () => {
    const command = "console.log('up'); setTimeout(() => { console.log('saved'); process.exit(42); }, 400);";
    assert.deepEqual(await interrupted('SIGINT', command), { code: 42, output: 'up\nsaved\n' });
  });

  it('killed by a signal gives 128 and its number', async () => {
    const waiting = "console.log('up'); setTimeout(() => {}, 20000);";
    assert.equal((await interrupted('SIGTERM', waiting)).code, 143);
    assert.equal((await interrupted('SIGHUP', waiting)).code, 129);
  });
});

describe('the tools for building', () => {
  const good = { cmake: CMAKE, 'g++': gcc('12'), ninja: 'echo 1.11.1' };

  it('are accepted where they are recent enough', () => {
    assert.deepEqual(checkToolchain(programs(good)), { cmake: '3.25.1', compiler: 'g++', ninja: true });
    assert.equal(checkToolchain(programs({ ...good, cmake: 'echo cmake version 3.18.4' })).cmake, '3.18.4');
    const clang = 'echo Debian clang version 16.0.6';
    assert.equal(
      checkToolchain(programs({ cmake: CMAKE, make: 'echo make', 'clang++': clang })).compiler,
      'clang++',
    );
  });

  it('are named one by one where they are missing or too old', () => {
    const lacks = (lines: Record<string, string>, ...patterns: RegExp[]): void =>
      assert.throws(() => checkToolchain(programs(lines)), install(...patterns));
    lacks({ ...good, cmake: 'exit 1' }, /CMake is missing/, /apt-get install/);
    lacks({ 'g++': gcc('12') }, /CMake is missing/);
    lacks(
      { ...good, cmake: 'echo cmake version 3.10.2' },
      /CMake 3\.10\.2 is too old/,
      /3\.18/,
      /pip install/,
    );
    lacks({ ...good, 'g++': 'exit 1' }, /no C\+\+ compiler/, /apt-get install/);
    lacks({ ...good, 'g++': gcc('9') }, /GCC 9/, /12 or newer/, /CXX=g\+\+-12/);
    lacks({ cmake: CMAKE, 'g++': gcc('12') }, /neither ninja nor make/, /apt-get install/);
    assert.throws(
      () => checkToolchain({ ...programs(good), CXX: 'g++-99' }),
      install(/CXX names a compiler/, /g\+\+-99/),
    );
  });
});

describe('preparing the addon', () => {
  it('refuses the CUDA variant with a libtorch for the CPU, before anything is compiled', async () => {
    const libtorch = fakeLibtorch();
    const log = () => undefined;
    const checkTools = (): never => assert.fail('the tools were looked for');
    await assert.rejects(
      prepareAddon({ libtorch, variant: 'cuda', log, checkTools }),
      install(/this libtorch is CPU-only/, new RegExp(libtorch), /--libtorch PATH/, /--cpu/),
    );
  });
});

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

describe('the published package', () => {
  it('holds what a build from source needs, and no binding.gyp', () => {
    const packed = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
      cwd: root,
      encoding: 'utf8',
    });
    const files = (JSON.parse(packed.stdout) as { files: { path: string }[] }[])[0]!.files.map(
      (file) => file.path,
    );
    assert.equal(files.includes('binding.gyp'), false, 'npm would compile on every install');
    const useless = files.filter((file) =>
      /\.(map|tsbuildinfo|pyc|test\.js)$|^(test|bench|src)\//.test(file),
    );
    assert.deepEqual(useless, []);
    for (const path of [
      'CMakeLists.txt',
      'native/addon.cc',
      'native/loader/loader.cc',
      'scripts/install.mjs',
      'scripts/bootstrap.mjs',
      'scripts/fetch_libtorch.py',
      'scripts/remote_wheel.py',
      'scripts/user_pip.py',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/cli/main.js',
      'dist/native/build.js',
      'docs/api.md',
      'examples/cifar10-resnet20.yaml',
      'LICENSE',
      'README.md',
    ]) {
      assert.ok(files.includes(path), `${path} is missing`);
    }
    assert.ok(existsSync(join(root, 'binding.gyp')), 'in the repository it is there');
  });

  it('names no package index', () => {
    const walk = (dir: string): string[] =>
      readdirSync(dir, { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? walk(join(dir, entry.name)) : [join(dir, entry.name)],
      );
    for (const file of [...walk(join(root, 'scripts')), ...walk(join(root, 'dist/libtorch'))]) {
      assert.doesNotMatch(
        readFileSync(file, 'utf8'),
        /pypi\.org|pythonhosted|download\.pytorch\.org\/whl/,
        file,
      );
    }
  });

  it('does not make installing fail where the addon is missing', () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'scripts'));
    for (const name of ['install.mjs', 'bootstrap.mjs'])
      cpSync(join(root, 'scripts', name), join(folder, 'scripts', name));
    const result = spawnSync(process.execPath, [join(folder, 'scripts/install.mjs')], { encoding: 'utf8' });
    assert.equal(result.status, 0);
    assert.match(result.stderr, /npx fornax build/);
  });

  it('depends on nothing that must be compiled on installing', () => {
    const require = createRequire(join(root, 'package.json'));
    const names = Object.keys(
      (require('./package.json') as { dependencies: Record<string, string> }).dependencies,
    );
    for (const name of names) {
      assert.equal(existsSync(join(root, 'node_modules', name, 'binding.gyp')), false, name);
    }
  });
});
