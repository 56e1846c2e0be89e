/**
 * Real data sets for tests. FORNAX_TEST_DATA names a folder that holds them unpacked (`cifar10-jpeg/`) or as
 * archives (`cifar10-jpeg.tar.xz`, `trashnet-480.tar`); an archive is unpacked once, into a cache folder. Without
 * the data a test is skipped with a reason, unless FORNAX_REQUIRE_DATA=1: then it fails.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const unpackChild = fileURLToPath(new URL('./unpack_child.js', import.meta.url));

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
  const target = path.join(cache, 'test-data', `${name}-${size}-${Math.round(mtimeMs)}`);
  const folder = path.join(target, name);
  if (existsSync(folder)) return folder;
  // Test files run side by side: one unpacks, the others wait. The lock is asynchronous and this function, which
  // decides about skipping, is not: so a process of its own takes it.
  const child = spawnSync(process.execPath, [unpackChild, archive, name, target], { encoding: 'utf8' });
  if (child.status !== 0) {
    throw new Error(`cannot unpack ${archive}: ${child.error?.message ?? child.stderr.trim()}`);
  }
  return folder;
}
