/**
 * clang-format of one version, so that the same sources pass everywhere: another version formats differently. It
 * is a pip package without dependencies and goes into Fornax's cache folder.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { BootstrapError } from './bootstrap.mjs';

const VERSION = '19.1.7';

/** The path of the binary, installed on first use. */
export async function clangFormat() {
  const cache = resolve(process.env.FORNAX_CACHE || join(homedir(), '.cache', 'fornax'));
  const folder = join(cache, 'tools', `clang-format-${VERSION}`);
  const binary = join(folder, 'clang_format', 'data', 'bin', 'clang-format');
  if (existsSync(binary)) return binary;

  const target = `${folder}.${process.pid}`;
  mkdirSync(target, { recursive: true });
  const pip = spawnSync(
    process.env.FORNAX_PYTHON ?? 'python3',
    [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--no-deps',
      '--only-binary=:all:',
      '--target',
      target,
      `clang-format==${VERSION}`,
    ],
    { encoding: 'utf8', env: { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' } },
  );
  if (pip.status !== 0) {
    rmSync(target, { recursive: true, force: true });
    throw new BootstrapError(
      `clang-format ${VERSION} could not be installed with pip: ${(pip.stderr || pip.error?.message || '').trim()}\n` +
        '  fix: install python3-pip and check the network (pip config list), then try again',
    );
  }
  try {
    renameSync(target, folder);
  } catch {
    rmSync(target, { recursive: true, force: true }); // another lint was faster
  }
  return binary;
}
