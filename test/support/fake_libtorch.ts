/** Trees that look like an installed libtorch: real ELF headers, nothing behind them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export interface FakeElf {
  /** e_machine. Default: the one of this Node. */
  machine?: number;
  soname?: string;
  needed?: string[];
  runpath?: string;
}

export const thisMachine = process.arch === 'arm64' ? 183 : 62;

/** A 64-bit little-endian shared library with a dynamic section and no code. */
export function elf({ machine = thisMachine, soname, needed = [], runpath }: FakeElf): Buffer {
  const names = ['', ...(soname ? [soname] : []), ...needed, ...(runpath ? [runpath] : [])];
  const strings = Buffer.from(names.join('\0') + '\0', 'latin1');
  const offsetOf = (name: string): number => strings.indexOf(`\0${name}\0`, 0, 'latin1') + 1;
  const stringsAt = 64 + 2 * 56;
  const dynamicAt = stringsAt + strings.length;
  const base = 0x10000; // file offset and address differ, as in real libraries
  const tags: [number, number][] = [
    [5, base + stringsAt],
    [10, strings.length],
    ...needed.map((name): [number, number] => [1, offsetOf(name)]),
    ...(soname ? [[14, offsetOf(soname)] as [number, number]] : []),
    ...(runpath ? [[29, offsetOf(runpath)] as [number, number]] : []),
    [0, 0],
  ];
  const total = dynamicAt + tags.length * 16;
  const file = Buffer.alloc(total);
  file.writeUInt32BE(0x7f454c46, 0);
  file.set([2, 1, 1], 4);
  file.writeUInt16LE(3, 16);
  file.writeUInt16LE(machine, 18);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  const segment = (at: number, type: number, offset: number, size: number): void => {
    file.writeUInt32LE(type, at);
    file.writeBigUInt64LE(BigInt(offset), at + 8);
    file.writeBigUInt64LE(BigInt(base + offset), at + 16);
    file.writeBigUInt64LE(BigInt(size), at + 32);
    file.writeBigUInt64LE(BigInt(size), at + 40);
  };
  segment(64, 1, 0, total);
  segment(64 + 56, 2, dynamicAt, tags.length * 16);
  strings.copy(file, stringsAt);
  tags.forEach(([tag, value], i) => {
    file.writeBigInt64LE(BigInt(tag), dynamicAt + i * 16);
    file.writeBigUInt64LE(BigInt(value), dynamicAt + i * 16 + 8);
  });
  return file;
}

process.setMaxListeners(200);

export function writeTree(root: string, files: Record<string, string | Buffer>): string {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

/** Removed when the test process ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'fornax-test-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface FakeLibtorch {
  /** Of the libraries (version.py). */
  version?: string;
  /** Of the headers; null leaves them out. Default: as `version`. */
  headers?: string | null;
  machine?: number;
  cuda?: boolean;
}

/** The files of a `torch/` folder, by path. */
export function libtorchFiles(options: FakeLibtorch = {}): Record<string, string | Buffer> {
  const { version = '2.14.1', machine = thisMachine } = options;
  const headers = options.headers === undefined ? version : options.headers;
  const files: Record<string, string | Buffer> = {
    'lib/libc10.so': elf({ machine, soname: 'libc10.so', needed: ['libc.so.6'] }),
    'lib/libtorch_cpu.so': elf({
      machine,
      soname: 'libtorch_cpu.so',
      needed: ['libc10.so', 'libgomp.so.1', 'libcudart.so.13', 'libc.so.6'],
      runpath: '$ORIGIN/../../nvidia/cu13/lib:$ORIGIN',
    }),
    'lib/libgomp.so.1': elf({ machine, soname: 'libgomp.so.1' }),
    'version.py': `__version__ = '${version}+cu130'\ncuda: Optional[str] = '13.0'\n`,
  };
  if (options.cuda) files['lib/libtorch_cuda.so'] = elf({ machine, needed: ['libtorch_cpu.so'] });
  if (headers !== null) {
    files['include/ATen/ATen.h'] = '';
    files['include/torch/headeronly/version.h'] = `#define TORCH_VERSION \\\n  "${headers}"\n`;
  }
  return files;
}

/** A site-packages folder with torch and one NVIDIA package; returns the path of torch/. */
export function fakeLibtorch(options: FakeLibtorch = {}, site = temporaryFolder()): string {
  writeTree(join(site, 'torch'), libtorchFiles(options));
  writeTree(site, { 'nvidia/cu13/lib/libcudart.so.13': elf({ soname: 'libcudart.so.13' }) });
  return join(site, 'torch');
}
