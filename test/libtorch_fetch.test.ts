/**
 * Fetching libtorch from a package index that this test serves: which bytes are read, what is checked, what
 * survives an interruption. Needs Python with pip, as fetching does.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { InstallError } from '#fornax/errors.js';
import { cacheDir } from '#fornax/io/cache_dir.js';
import { fetchLibtorch } from '#fornax/libtorch/fetch.js';
import { cacheFolder } from '#fornax/libtorch/locate.js';
import { isComplete } from '#fornax/libtorch/manifest.js';
import { elf, libtorchFiles, temporaryFolder, writeTree } from './support/fake_libtorch.js';

const hasPython = spawnSync('python3', ['-m', 'pip', '--version'], { stdio: 'ignore' }).status === 0;

/** Writes a wheel: a zip with METADATA, WHEEL and a RECORD of digests. argv: folder of files, path of the wheel. */
const MAKE_WHEEL = `
import base64, hashlib, os, sys, zipfile
source, path = sys.argv[1:3]
name, version = os.path.basename(path).split("-")[:2]
info = f"{name}-{version}.dist-info"
with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
    record = []
    def add(member, data):
        out.writestr(member, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        if os.environ.get("WRONG_RECORD") == member: digest = "A" * 43
        record.append(f"{member},sha256={digest},{len(data)}")
    for folder, _, files in sorted(os.walk(source)):
        for file in sorted(files):
            full = os.path.join(folder, file)
            add(os.path.relpath(full, source), open(full, "rb").read())
    requires = "".join(f"Requires-Dist: {r}\\n" for r in sys.argv[3:])
    add(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{requires}".encode())
    add(f"{info}/WHEEL", b"Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: py3-none-any\\n")
    record.append(f"{info}/RECORD,,")
    out.writestr(f"{info}/RECORD", "\\n".join(record) + "\\n")
`;

const BALLAST = 3 << 20; // what a CPU does not need, and must not be read

function makeWheel(
  folder: string,
  file: string,
  files: Record<string, string | Buffer>,
  requires: string[],
  env = {},
) {
  const source = writeTree(temporaryFolder(), files);
  const made = spawnSync('python3', ['-c', MAKE_WHEEL, source, join(folder, file), ...requires], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  assert.equal(made.status, 0, made.stderr);
}

/** Incompressible, and the same every time. */
function noise(length: number, seed: string): Buffer {
  const blocks: Buffer[] = [];
  for (let i = 0; i * 64 < length; i++) blocks.push(createHash('sha512').update(`${seed}${i}`).digest());
  return Buffer.concat(blocks).subarray(0, length);
}

/** A folder with the wheels of an index: torch, and the package of libcudart that its metadata names. */
function makeIndex(env: NodeJS.ProcessEnv = {}): string {
  const folder = temporaryFolder();
  const torch = Object.fromEntries(
    Object.entries(libtorchFiles()).map(([path, data]) => [`torch/${path}`, data]),
  );
  makeWheel(
    folder,
    'torch-2.14.1-py3-none-any.whl',
    {
      ...torch,
      'torch/include/noise.h': noise(2 << 20, 'header'),
      'torch/lib/libtorch_cuda.so': noise(BALLAST, 'cuda'),
      'torch/bin/protoc': noise(1000, 'protoc'),
    },
    ['filelock', 'nvidia-cuda-runtime==13.0.96; platform_system == "Linux"', 'pyyaml; extra == "pyyaml"'],
    env,
  );
  makeWheel(
    folder,
    'nvidia_cuda_runtime-13.0.96-py3-none-any.whl',
    {
      'nvidia/cu13/lib/libcudart.so.13': elf({ soname: 'libcudart.so.13' }),
      'nvidia/cu13/lib/libother.so': 'x',
    },
    [],
  );
  return folder;
}

interface Behaviour {
  ranges?: boolean;
  /** Cuts the connection after so many bytes of bodies in all. */
  cutAfter?: number;
}

/** Serves a folder of wheels as a package index. */
class Index {
  sent = 0;
  behaviour: Behaviour = {};
  constructor(
    readonly server: Server,
    readonly url: string,
  ) {}

  static async start(folder: string): Promise<Index> {
    const server = createServer((request, response) => {
      const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
      const project = /^\/simple\/([^/]+)\/$/.exec(path)?.[1];
      if (project) {
        const files = readdirSync(folder).filter(
          (file) => file.split('-')[0]!.replaceAll('_', '-') === project,
        );
        response.writeHead(files.length ? 200 : 404, { 'content-type': 'text/html' });
        return response.end(files.map((file) => `<a href="/files/${file}">${file}</a>`).join('\n'));
      }
      const data = readFileSync(join(folder, path.replace('/files/', '')));
      const range =
        index.behaviour.ranges === false ? null : /bytes=(\d*)-(\d*)/.exec(request.headers.range ?? '');
      const first = range ? (range[1] ? Number(range[1]) : Math.max(0, data.length - Number(range[2]))) : 0;
      const last = range?.[1] && range[2] ? Math.min(Number(range[2]), data.length - 1) : data.length - 1;
      const headers = {
        'accept-ranges': index.behaviour.ranges === false ? 'none' : 'bytes',
        'content-length': last - first + 1,
      };
      response.writeHead(
        range ? 206 : 200,
        range ? { ...headers, 'content-range': `bytes ${first}-${last}/${data.length}` } : headers,
      );
      if (request.method === 'HEAD') return response.end();
      const body = data.subarray(first, last + 1);
      const room = (index.behaviour.cutAfter ?? Infinity) - index.sent;
      index.sent += Math.min(body.length, Math.max(0, room));
      if (room >= body.length) return response.end(body);
      response.write(body.subarray(0, Math.max(0, room)), () => response.destroy());
      return undefined;
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const index: Index = new Index(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    return index;
  }
}

/** A folder with a recent pip: the one that bootstrapping left, else one from the user's own index. */
function recentPip(): { folder: string } | { missing: string } {
  if (!hasPython) return { missing: 'needs python3 with pip' };
  const left = join(cacheDir(), 'tools', 'pip-26');
  if (existsSync(left)) return { folder: left };
  const folder = join(temporaryFolder(), 'pip-26');
  const args = ['-m', 'pip', 'install', '--quiet', '--retries', '1', '--no-deps', '--target', folder];
  const installed = spawnSync('python3', [...args, 'pip>=26,<27'], { encoding: 'utf8', timeout: 60_000 });
  if (installed.status === 0) return { folder };
  const reason = installed.error?.message ?? installed.stderr.trim().split('\n').at(-1);
  return { missing: `needs pip 26, which no package index gives (offline?): ${reason}` };
}

const pip = recentPip();
const why = 'missing' in pip && pip.missing;

describe('fetching libtorch for a CPU', { skip: why }, () => {
  const servers: Server[] = [];
  after(() => servers.forEach((server) => server.close()));

  async function setUp(
    folder = makeIndex(),
  ): Promise<{ index: Index; env: NodeJS.ProcessEnv; log: string[] }> {
    const index = await Index.start(folder);
    servers.push(index.server);
    const cache = temporaryFolder();
    mkdirSync(join(cache, 'tools'));
    assert.ok('folder' in pip);
    cpSync(pip.folder, join(cache, 'tools', 'pip-26'), { recursive: true });
    const env = {
      ...process.env,
      FORNAX_CACHE: cache,
      PIP_INDEX_URL: `${index.url}/simple`,
      PIP_FIND_LINKS: '',
      PIP_CONFIG_FILE: '/dev/null',
      PIP_RETRIES: '0',
      PIP_NO_CACHE_DIR: '1',
    };
    return { index, env, log: [] };
  }

  const fetch = ({ env, log }: { env: NodeJS.ProcessEnv; log: string[] }, free?: () => number) =>
    fetchLibtorch({ variant: 'cpu', env, free, log: (line) => void log.push(line) });

  it('reads only what a CPU needs, and what that needs in turn', async () => {
    const site = await setUp();
    const found = await fetch(site);
    assert.equal(found.version, '2.14.1');
    assert.equal(found.hasCuda, false);
    const folder = cacheFolder('cpu', site.env);
    assert.equal(isComplete(folder, { thorough: true }), true);
    const has = (path: string): boolean => existsSync(join(folder, path));
    assert.ok(has('torch/lib/libgomp.so.1'), 'NEEDED by libtorch_cpu.so');
    assert.ok(has('nvidia/cu13/lib/libcudart.so.13'), 'NEEDED, from another package');
    assert.equal(has('nvidia/cu13/lib/libother.so'), false);
    assert.equal(has('torch/bin/protoc'), false);
    assert.ok(readFileSync(join(folder, 'torch/include/noise.h')).equals(noise(2 << 20, 'header')));
    assert.ok(site.index.sent < (2 << 20) + BALLAST, `${site.index.sent} bytes were read`);
    assert.equal(existsSync(`${folder}.partial`), false);

    const before = site.index.sent;
    await fetch(site);
    assert.equal(site.index.sent, before, 'once is enough');
  });

  it('goes on where it stopped', async () => {
    const site = await setUp();
    site.index.behaviour = { cutAfter: 1.5 * 2 ** 20 };
    const folder = cacheFolder('cpu', site.env);
    await assert.rejects(fetch(site), (error: unknown) => {
      assert.ok(error instanceof InstallError);
      assert.match(error.message, /cannot be reached/);
      return true;
    });
    assert.equal(existsSync(folder), false, 'nothing half-written is in place');
    site.index.behaviour = {};
    const before = site.index.sent;
    await fetch(site);
    assert.ok(site.index.sent - before < 1.5 * 2 ** 20, `${site.index.sent - before} bytes were read again`);
    assert.equal(isComplete(folder, { thorough: true }), true);
  });

  it('takes the whole file from an index without ranges', async () => {
    const site = await setUp();
    site.index.behaviour = { ranges: false };
    assert.equal((await fetch(site)).version, '2.14.1');
  });

  it('refuses a file that does not match the RECORD', async () => {
    const site = await setUp(makeIndex({ WRONG_RECORD: 'torch/lib/libc10.so' }));
    await assert.rejects(fetch(site), /libc10\.so does not match the wheel's RECORD/);
    assert.equal(existsSync(cacheFolder('cpu', site.env)), false);
    assert.ok(site.log.some((line) => /starting over/.test(line)));
  });

  it('repairs a half-written cache', async () => {
    const site = await setUp();
    await fetch(site);
    const folder = cacheFolder('cpu', site.env);
    writeFileSync(join(folder, 'torch/lib/libc10.so'), 'cut');
    await fetch(site);
    assert.equal(isComplete(folder, { thorough: true }), true);
    assert.ok(site.log.some((line) => /is incomplete/.test(line)));
  });

  it('is done once by two who ask at the same time', async () => {
    const site = await setUp();
    const both = await Promise.all([fetch(site), fetch(site)]);
    assert.deepEqual(both[0], both[1]);
    assert.equal(site.log.filter((line) => /^fetching libtorch/.test(line)).length, 1);
    assert.ok(site.log.some((line) => /waiting for/.test(line)));
  });

  it('says what is missing: version, network, pip, Python, space', async () => {
    const site = await setUp();
    const empty = await setUp(temporaryFolder());
    await assert.rejects(fetch(empty), /offers no torch 2\.14\.1/);

    const offline = { ...site, env: { ...site.env, PIP_INDEX_URL: 'http://127.0.0.1:9/simple' } };
    await assert.rejects(fetch(offline), /cannot be reached[^]*PIP_CERT[^]*FORNAX_LIBTORCH/);

    const bare = join(temporaryFolder(), 'venv');
    assert.equal(spawnSync('python3', ['-m', 'venv', '--without-pip', bare]).status, 0);
    const noPip = {
      ...site,
      env: { ...site.env, FORNAX_PYTHON: join(bare, 'bin/python3'), FORNAX_CACHE: temporaryFolder() },
    };
    await assert.rejects(fetch(noPip), /pip, which is missing[^]*python3-pip/);

    const noPython = { ...site, env: { ...site.env, FORNAX_PYTHON: '/nonexistent/python3' } };
    await assert.rejects(fetch(noPython), /does not run[^]*apt-get install[^]*FORNAX_LIBTORCH/);

    await assert.rejects(
      fetch(site, () => 2 ** 20),
      /libtorch needs 0\.9 GiB[^]*FORNAX_CACHE/,
    );
  });
});
