/** What a build from source needs of the system, checked before anything is started. */
import { spawnSync } from 'node:child_process';
import { InstallError } from '../errors.js';

export const CMAKE_OLDEST = '3.18';
export const GCC_OLDEST = 12;
/** The one line that installs everything on Debian and Ubuntu. */
export const APT_LINE = 'sudo apt-get install -y g++ cmake make ninja-build python3 python3-pip';

type Env = NodeJS.ProcessEnv;

function firstLine(command: string, args: string[], env: Env): string | undefined {
  const result = spawnSync(command, args, { encoding: 'utf8', env, timeout: 20_000 });
  return result.status === 0 ? result.stdout.split('\n')[0]!.trim() : undefined;
}

function older(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number));
  return a![0]! !== b![0]! ? a![0]! < b![0]! : (a![1] ?? 0) < (b![1] ?? 0);
}

export interface Toolchain {
  cmake: string;
  compiler: string;
  ninja: boolean;
}

/**
 * @throws InstallError for a missing or too old CMake, compiler or make, with the line that installs it
 */
export function checkToolchain(env: Env = process.env): Toolchain {
  const cmake = firstLine('cmake', ['--version'], env);
  const version = cmake && /(\d+\.\d+(\.\d+)?)/.exec(cmake)?.[1];
  if (!version) {
    throw new InstallError({ what: 'CMake is missing; it builds the native addon', fix: APT_LINE });
  }
  if (older(version, CMAKE_OLDEST)) {
    throw new InstallError({
      what: `CMake ${version} is too old: the native addon needs ${CMAKE_OLDEST} or newer`,
      fix: 'install a newer one: python3 -m pip install --user cmake (and put ~/.local/bin first in PATH)',
    });
  }
  const compiler = env.CXX || ['c++', 'g++', 'clang++'].find((name) => firstLine(name, ['--version'], env));
  const banner = compiler && firstLine(compiler, ['--version'], env);
  if (!compiler || !banner) {
    throw new InstallError({
      what: env.CXX ? `CXX names a compiler that does not run: ${env.CXX}` : 'no C++ compiler is installed',
      fix: APT_LINE,
    });
  }
  const major = Number.parseInt(firstLine(compiler, ['-dumpversion'], env) ?? '', 10);
  if (!/clang/i.test(banner) && major < GCC_OLDEST) {
    throw new InstallError({
      what: `the C++ compiler ${compiler} is GCC ${major}: ${GCC_OLDEST} or newer is needed (C++20)`,
      fix: `sudo apt-get install -y g++-${GCC_OLDEST}, then build with CXX=g++-${GCC_OLDEST}`,
    });
  }
  const ninja = ['ninja', 'ninja-build'].some((name) => firstLine(name, ['--version'], env) !== undefined);
  if (!ninja && firstLine('make', ['--version'], env) === undefined) {
    throw new InstallError({ what: 'neither ninja nor make is installed', fix: APT_LINE });
  }
  return { cmake: version, compiler, ninja };
}
