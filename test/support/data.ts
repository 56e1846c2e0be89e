/**
 * Real data sets for tests. FORNAX_TEST_DATA names a folder that holds them unpacked (`cifar10-jpeg/`) or as
 * archives (`cifar10-jpeg.tar.xz`, `trashnet-480.tar`); an archive is unpacked once, into a cache folder. Without
 * the data a test is skipped with a reason, unless FORNAX_REQUIRE_DATA=1: then it fails.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Data sets that tests may ask for: the folder inside the archive. */
export type TestDataName =
  'cifar10-jpeg' | 'tiny100' | 'trashnet' | 'camvid' | 'wider' | 'imagenet-sample' | 'weights';

/**
 * The folder of a data set, or null where there is none (pass the result of `whyNoData` to `skip`).
 *
 * @throws Error if it is missing although FORNAX_REQUIRE_DATA=1, or if its archive cannot be unpacked.
 */
export function testData(name: TestDataName): string | null {
  const root = process.env.FORNAX_TEST_DATA;
  const folder = root ? locate(path.resolve(root), name) : null;
  if (folder === null && process.env.FORNAX_REQUIRE_DATA === '1') {
    throw new Error(`${missing(name)}, and FORNAX_REQUIRE_DATA=1 asks for it`);
  }
  return folder;
}

/** For node:test's `skip`: the reason why a data set is not there, or false. */
export function whyNoData(name: TestDataName): string | false {
  return testData(name) === null ? missing(name) : false;
}

function missing(name: string): string {
  return process.env.FORNAX_TEST_DATA
    ? `no data set '${name}' in FORNAX_TEST_DATA (${process.env.FORNAX_TEST_DATA})`
    : `needs the data set '${name}': FORNAX_TEST_DATA is not set`;
}

function locate(root: string, name: string): string | null {
  const unpacked = path.join(root, name);
  if (existsSync(unpacked) && statSync(unpacked).isDirectory()) return unpacked;
  if (!existsSync(root)) return null;
  const pattern = new RegExp(`^${name}(-\\d+)?\\.tar(\\.(xz|gz))?$`);
  const archive = readdirSync(root).find((file) => pattern.test(file));
  return archive === undefined ? null : unpack(path.join(root, archive), name);
}

/** Unpacks into a folder named after the archive's size and time, by one rename. */
function unpack(archive: string, name: string): string {
  const { size, mtimeMs } = statSync(archive);
  const cache = process.env.FORNAX_CACHE ?? path.join(tmpdir(), 'fornax-cache');
  const parent = path.join(cache, 'test-data');
  const target = path.join(parent, `${name}-${size}-${Math.round(mtimeMs)}`);
  const folder = path.join(target, name);
  if (existsSync(folder)) return folder;
  mkdirSync(parent, { recursive: true });
  return exclusively(`${target}.lock`, folder, () => {
    const temporary = mkdtempSync(path.join(parent, `.${name}-`));
    try {
      const tar = spawnSync('tar', ['-xf', archive, '-C', temporary], { encoding: 'utf8' });
      if (tar.status !== 0) {
        throw new Error(`cannot unpack ${archive}: ${tar.error?.message ?? tar.stderr.trim()}`);
      }
      if (!existsSync(path.join(temporary, name))) {
        throw new Error(`${archive} holds no folder '${name}', only ${readdirSync(temporary).join(', ')}`);
      }
      renameSync(temporary, target);
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
    return folder;
  });
}

/** Test files run side by side: one of them unpacks, the others wait until it has (at most two minutes). */
function exclusively(lock: string, result: string, work: () => string): string {
  const deadline = Date.now() + 120_000;
  for (;;) {
    if (existsSync(result)) return result;
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (Date.now() > deadline) rmSync(lock, { recursive: true, force: true }); // its owner died
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    }
  }
  try {
    return existsSync(result) ? result : work();
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}
