/**
 * Images per second of the loader against torchvision's ImageFolder + DataLoader. Both deliver batches of
 * RandomResizedCrop(224) + flip as normalised float32, shuffled, to a consumer that only receives them.
 *
 *     node build/dev/bench/loader.js [FOLDER]      a folder with one subfolder of images per class
 *
 * Without FOLDER: `trashnet-480` in FORNAX_TEST_DATA. FORNAX_PEER_PYTHON names a Python with torchvision.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { prepareDataset } from '#fornax/data/dataset.js';
import { loaderOptions } from '#fornax/data/loader_options.js';
import { loadAddon } from '#fornax/native.js';
import type { LoaderOptions, NativeLoader } from '#fornax/native/contract.js';
import { testData } from '../test/support/data.js';
import { formatRows, speedup, spread, type Row } from './row.js';

export interface LoaderBenchOptions {
  /** Folder with one subfolder of images per class. */
  folder: string;
  /** A Python with torch and torchvision; null: Fornax alone. */
  python: string | null;
  /** Measured rounds of each side, alternating. Default 5. */
  rounds?: number;
  /** Threads of Fornax and worker processes of torchvision. Default 2. */
  workers?: number;
  /** Default 64. */
  batchSize?: number;
  /** How many times an epoch goes over the images, so that short data sets are not all start-up. Default 4. */
  repeat?: number;
}

const SIZE = 224;
const NORMALIZE = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/** An epoch of Fornax takes milliseconds: this many are one measurement. */
const EPOCHS = 10;

export async function benchLoader(options: LoaderBenchOptions): Promise<Row[]> {
  const { folder, rounds = 5, workers = 2, batchSize = 64, repeat = 4 } = options;
  const peer = options.python
    ? await startPeer(options.python, [folder, batchSize, workers, repeat, SIZE].map(String))
    : 'no peer: set FORNAX_PEER_PYTHON to a Python with torch and torchvision';
  const first: Record<'fornax' | 'peer', number[]> = { fornax: [], peer: [] };
  const later: typeof first = { fornax: [], peer: [] };
  let notes: string;
  try {
    for (let round = 0; round < Math.min(rounds, 3); round++) {
      first.fornax.push(await firstEpoch(folder, batchSize, workers));
      if (typeof peer !== 'string') first.peer.push(await peer.run('first'));
    }
    const cache = mkdtempSync(join(tmpdir(), 'fornax-bench-'));
    try {
      const opened = await open(folder, cache, batchSize, workers);
      const samples = opened.indices ?? Int32Array.from({ length: opened.samples }, (_, i) => i);
      const repeated = Int32Array.from(
        { length: samples.length * repeat },
        (_, i) => samples[i % samples.length]!,
      );
      const loader = new (loadAddon().Loader)({ ...opened.options, indices: repeated });
      await runEpoch(loader, 0); // warms up, untimed, as the peer does
      for (let round = 0; round < rounds; round++) {
        const start = performance.now();
        let images = 0;
        for (let epoch = 1; epoch <= EPOCHS; epoch++)
          images += await runEpoch(loader, round * EPOCHS + epoch);
        later.fornax.push((images / (performance.now() - start)) * 1000);
        if (typeof peer !== 'string') later.peer.push(await peer.run('later'));
      }
      loader.dispose();
      notes = `${samples.length} images × ${repeat}, batches of ${batchSize}, ${workers} threads or worker processes`;
    } finally {
      rmSync(cache, { recursive: true });
    }
  } finally {
    if (typeof peer !== 'string') peer.stop();
  }
  return [
    row('loader, first epoch', first, peer, { notes: 'decoding the JPEGs included' }),
    row('loader, later epochs', later, peer, { notes, target: 20 }),
  ];
}

function row(
  name: string,
  measured: Record<'fornax' | 'peer', number[]>,
  peer: Peer | string,
  rest: Partial<Row>,
): Row {
  const result: Row = {
    name,
    unit: 'images/s',
    better: 'higher',
    fornax: spread(measured.fornax),
    peer: measured.peer.length > 0 ? spread(measured.peer) : null,
    peerName: typeof peer === 'string' ? peer : peer.name,
    speedup: null,
    ...rest,
  };
  return { ...result, speedup: speedup(result) };
}

/** From JPEGs to the end of the first epoch, with an empty cache. */
async function firstEpoch(folder: string, batchSize: number, workers: number): Promise<number> {
  const cache = mkdtempSync(join(tmpdir(), 'fornax-bench-'));
  try {
    const start = performance.now();
    const { options } = await open(folder, cache, batchSize, workers);
    const loader = new (loadAddon().Loader)(options);
    const images = await runEpoch(loader, 0);
    const seconds = (performance.now() - start) / 1000;
    loader.dispose();
    return images / seconds;
  } finally {
    rmSync(cache, { recursive: true });
  }
}

async function open(
  folder: string,
  cache: string,
  batchSize: number,
  threads: number,
): Promise<{ options: LoaderOptions; samples: number; indices?: Int32Array }> {
  const resolution = [SIZE, SIZE] as const;
  const { train, channels } = await prepareDataset({
    path: folder,
    source: 'folder',
    resolution,
    pack: 'original',
    channels: 3,
    valSplit: null,
    valFraction: 0,
    cache,
  });
  const options = loaderOptions(train, {
    channels,
    resolution,
    batchSize,
    threads,
    seed: 0,
    train: true,
    augment: { crop: 'random_resized_crop', hflip: 0.5 },
    normalize: NORMALIZE,
  });
  return { options, samples: train.samples, indices: train.indices };
}

async function runEpoch(loader: NativeLoader, epoch: number): Promise<number> {
  let images = 0;
  loader.startEpoch(epoch);
  for (let batch = await loader.next(); batch; batch = await loader.next()) {
    images += batch.label!.shape[0]!;
    for (const tensor of Object.values(batch)) tensor.dispose();
  }
  return images;
}

interface Peer {
  name: string;
  /** Images per second of one epoch. */
  run(command: 'first' | 'later'): Promise<number>;
  stop(): void;
}

/** The peer, ready to run; or the reason why there is none. */
async function startPeer(python: string, args: string[]): Promise<Peer | string> {
  // The compiled file lies in build/dev/bench.
  const script = fileURLToPath(new URL('../../../bench/peers/loader.py', import.meta.url));
  const child = spawn(python, [script, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  const failed = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`no peer: ${error.message}`));
    child.once('exit', (code) => resolve(`no peer: ${python} ended with code ${code}`));
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<Record<string, unknown> | string> => {
    const line = await Promise.race([lines.next(), failed]);
    if (typeof line === 'string') return line;
    return line.done ? await failed : (JSON.parse(line.value) as Record<string, unknown>);
  };
  const versions = await answer();
  if (typeof versions === 'string') return versions;
  return {
    name: `torchvision ${String(versions.torchvision)}`,
    async run(command) {
      child.stdin.write(`${command}\n`);
      const result = await answer();
      if (typeof result === 'string') throw new Error(result);
      return (result.images as number) / (result.seconds as number);
    },
    stop: () => void child.stdin.end(),
  };
}

/** The folder given (or its `train`), or the training images of trashnet-480 in FORNAX_TEST_DATA. */
export function benchFolder(argument: string | undefined): string {
  const root = argument ?? testData('trashnet');
  if (root === null) throw new Error('no images: give a folder, or set FORNAX_TEST_DATA');
  const folder = [join(root, 'train'), root].find((candidate) => existsSync(candidate));
  if (!folder) throw new Error(`no images: ${root} does not exist`);
  return folder;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = benchFolder(process.argv[2]);
  const rows = await benchLoader({ folder, python: process.env.FORNAX_PEER_PYTHON ?? null });
  console.log(formatRows(rows));
}
