/** `npm run bench`: Fornax beside PyTorch eager, measured in turns within one run. */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import { writeFileAtomic } from '#fornax/io/atomic.js';
import { loadAddon } from '#fornax/native.js';
import { testData } from '../test/support/data.js';
import { benchFolder, benchLoader } from './loader.js';
import { describeMachine, loadAverage } from './machine.js';
import { findPeer } from './peer.js';
import { markdownTable, notes, withResults } from './report.js';
import type { Row } from './row.js';
import { benchStartup } from './startup.js';
import { benchSteps } from './steps.js';

const parts = ['startup', 'steps', 'loader'] as const;
type Part = (typeof parts)[number];

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('must be a number above 0');
  return value;
}

function readParts(text: string): Part[] {
  return text.split(',').map((name) => {
    const part = parts.find((known) => known === name.trim());
    if (!part) throw new InvalidArgumentError(`the parts are ${parts.join(', ')}`);
    return part;
  });
}

const command = new Command('npm run bench --')
  .description(
    'Measures Fornax and, where FORNAX_PEER_PYTHON or python3 has torch, PyTorch eager in turns. The machine should be idle.',
  )
  .option('--only <parts>', `parts to measure: ${parts.join(', ')}`, readParts, [...parts])
  .option('--rounds <n>', 'measured rounds of each side', positive, 7)
  .option('--seconds <n>', 'about how long a round of training steps lasts', positive, 2)
  .option('--threads <n>', 'threads of either side', positive, availableParallelism())
  .option('--contiguous', 'measure convolutions in contiguous instead of channels-last layout')
  .option('--out <file>', 'also write the results into this Markdown file, over those of an earlier run')
  .parse();
interface Options {
  only: Part[];
  rounds: number;
  seconds: number;
  threads: number;
  contiguous?: boolean;
  out?: string;
}
const options = command.opts<Options>();
const log = (line: string): void => void process.stderr.write(`${line}\n`);

const peer = findPeer();
if (!peer) log('No Python with torch (set FORNAX_PEER_PYTHON): these are the figures of Fornax alone.');
// Before anything loads the addon: both sides run on the same libtorch.
if (peer?.libtorch) process.env.FORNAX_LIBTORCH = peer.libtorch;
const before = loadAverage();
if (Number(before) > 1) {
  log(
    `The machine is busy (load ${before}): compare processor times, not times, or run again when it is idle.`,
  );
}

async function measure(part: Part): Promise<Row[]> {
  log(`${part} …`);
  if (part === 'startup') return benchStartup(peer, options.rounds);
  if (part === 'steps') {
    const { rounds, seconds, threads } = options;
    return benchSteps({ peer, rounds, seconds, threads, channelsLast: !options.contiguous, log });
  }
  if (testData('trashnet') === null) {
    log('No images for the loader: set FORNAX_TEST_DATA.');
    return [];
  }
  const python = peer?.hasTorchvision ? peer.python : null;
  return benchLoader({
    folder: benchFolder(undefined),
    python,
    rounds: Math.min(options.rounds, 5),
    workers: options.threads,
  });
}

const rows: Row[] = [];
for (const part of parts) if (options.only.includes(part)) rows.push(...(await measure(part)));

const info = loadAddon().systemInfo();
const results = [
  `${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}, libtorch ${info.torch_version}; ${peer ? `${peer.name} (eager)` : 'no peer'}.`,
  `${describeMachine(info)}. Load before the run: ${before}. ${options.threads} threads on either side.`,
  `Command: \`${['npm run bench', ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : [])].join(' ')}\`. Median (lowest–highest) of the rounds' medians; the sides take turns.`,
  markdownTable(rows),
  "_floor_: forward and backward of the step's convolutions and linear layers alone, timed in the peer layer by layer on warm memory. _Fornax ahead by_: above 1 is better than the peer.",
  notes(rows),
].join('\n\n');
console.log(results);
if (options.out) {
  const document = existsSync(options.out) ? readFileSync(options.out, 'utf8') : '# Benchmarks\n';
  await writeFileAtomic(options.out, withResults(document, results));
}
