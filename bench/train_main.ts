/** `npm run bench:train`: training steps beside PyTorch eager, in bf16 and compiled, in turns within one run. */
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import { writeFileAtomic } from '#fornax/io/atomic.js';
import { loadAddon } from '#fornax/native.js';
import { describeMachine, loadAverage } from './machine.js';
import { findPeer } from './peer.js';
import { withResults } from './report.js';
import { benchTraining } from './train_bench.js';
import { selectCases, trainCases, type TrainCase } from './train_case.js';
import { trainReport, type TrainResult } from './train_report.js';

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('must be a number above 0');
  return value;
}

const ids = (device: TrainCase['device']): string =>
  trainCases(device, 1)
    .map(({ id }) => id)
    .join(', ');

const command = new Command('npm run bench:train --')
  .description(
    'Measures training steps of Fornax and, where FORNAX_PEER_PYTHON or python3 has torch, of PyTorch: eager, with bf16 autocast, and compiled. The machine should be idle.',
  )
  .option('--only <cases>', `cases to measure, of ${ids('cpu')}; with --device cuda ${ids('cuda')}`, (text) =>
    text.split(',').map((name) => name.trim()),
  )
  .option('--variants <ids>', 'beside Fornax, of fp32, eager, amp, compile (default: all)', (text) =>
    text.split(',').map((name) => name.trim()),
  )
  .addOption(new Option('--device <device>', 'where to train').choices(['cpu', 'cuda']).default('cpu'))
  .option('--rounds <n>', 'measured rounds of each side', positive, 5)
  .option('--seconds <n>', 'about how long a round of one side lasts', positive, 1.2)
  .option('--threads <n>', 'threads of either side', positive, availableParallelism())
  .option('--out <file>', 'also write the results into this Markdown file, over those of an earlier run')
  .parse();
const options = command.opts<{
  only?: string[];
  variants?: string[];
  device: TrainCase['device'];
  rounds: number;
  seconds: number;
  threads: number;
  out?: string;
}>();

const started = performance.now();
const log = (line: string): void => {
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  process.stderr.write(`[${seconds} s] ${line}\n`);
};

const cases = selectCases(trainCases(options.device, options.threads), options.only ?? null);
const peer = findPeer();
if (!peer) log('No Python with torch (set FORNAX_PEER_PYTHON): these are the figures of Fornax alone.');
// A CUDA build fits one libtorch: there each side keeps its own, and the report says so.
if (peer && options.device === 'cuda') peer.libtorch = null;
// Before anything loads the addon: all sides run on the same libtorch.
if (peer?.libtorch) process.env.FORNAX_LIBTORCH = peer.libtorch;
const before = loadAverage();
if (Number(before) > 1) {
  log(
    `The machine is busy (load ${before}): compare processor times, not times, or run again when it is idle.`,
  );
}

const results: TrainResult[] = [];
for (const setting of cases) {
  results.push(await benchTraining(setting, { ...options, variants: options.variants ?? null, peer, log }));
  log(`${setting.id}: done\n${trainReport(results.slice(-1))}`);
}

const info = loadAddon().systemInfo();
const gpu = options.device === 'cuda' ? (info.cuda.devices[0]?.name ?? 'no GPU') : null;
const text = [
  `${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}, libtorch ${info.torch_version}; ${peer?.name ?? 'no peer'}.`,
  `${gpu ? `${gpu}; ` : ''}${describeMachine(info)}. Load before the run: ${before}. ${options.threads} threads on either side.`,
  `Command: \`npm run bench:train${process.argv.length > 2 ? ` -- ${process.argv.slice(2).join(' ')}` : ''}\`, ${((performance.now() - started) / 60_000).toFixed(1)} minutes. Median (lowest–highest) of the rounds' medians; the sides take turns.`,
  trainReport(results),
].join('\n\n');
console.log(text);
if (options.out) {
  const document = existsSync(options.out) ? readFileSync(options.out, 'utf8') : '# Benchmarks\n';
  const name = options.device === 'cpu' ? 'bench:train' : 'bench:train on cuda';
  await writeFileAtomic(options.out, withResults(document, text, name));
}
