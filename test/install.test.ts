/** Installing: bootstrapping, the tools for building, and what the published package holds. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prepareAddon } from '#fornax/native/prepare.js';
import { checkToolchain } from '#fornax/native/toolchain.js';
import { fakeLibtorch, temporaryFolder } from './support/fake_libtorch.js';
import { install } from './support/install_error.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

interface Bootstrap {
  checkNode(version?: string): void;
  missingPackages(works: (command: string, args: string[]) => boolean): string[];
}

const bootstrap = (await import(
  new URL('../../../scripts/bootstrap.mjs', import.meta.url).href
)) as Bootstrap;

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
  /** Sends `signal` to the wrapper alone once the command is up, and then closes the command's input. */
  async function interrupted(signal: NodeJS.Signals, command: string) {
    const wrapper = `import { run } from ${JSON.stringify(join(root, 'scripts/bootstrap.mjs'))};
      process.exitCode = await run(process.execPath, ['-e', ${JSON.stringify(command)}]);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', wrapper], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (!text.includes('up')) return;
      child.kill(signal);
      child.stdin.end();
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
    const command =
      "process.stdin.on('end', () => { console.log('saved'); process.exit(42); }).resume(); console.log('up');";
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
