/**
 * A process that ends in the middle of training, in the way named by its argument: `exit` (process.exit), `throw`
 * (an uncaught exception), `worker` (a worker thread is terminated), `collected` (nobody keeps the session).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import type { StepsEvent } from '#fornax/native/contract.js';
import { goldenModel, openSession } from './training_golden.js';
import { normalize, openColourLoader, writeColourPack } from './training_pack.js';

const pack = writeColourPack(400);
process.on('exit', () => pack.remove());

function train(onEvent: (event: StepsEvent) => void): Promise<unknown> {
  const session = openSession(goldenModel(), { normalize });
  const loader = openColourLoader(pack, { batch_size: 1 });
  loader.startEpoch(0);
  return session.run(loader, { steps: 400, event_interval_ms: 0, onEvent });
}

async function collected(): Promise<void> {
  const running = train(() => gc!());
  await running;
  for (let i = 0; i < 3; i++) {
    gc!();
    await sleep(10);
  }
  process.stdout.write('running until the end, then collected\n');
}

async function terminateWorker(): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), { argv: ['inside'] });
  await new Promise((resolve) => worker.once('message', resolve));
  process.stdout.write('running\n');
  await worker.terminate();
}

const how = process.argv[2];
if (!isMainThread) {
  await train(() => parentPort!.postMessage('running'));
} else if (how === 'worker') {
  await terminateWorker();
} else if (how === 'collected') {
  await collected();
} else {
  await train(() => {
    process.stdout.write('running\n');
    if (how === 'exit') process.exit(7);
    throw new Error('thrown by a callback');
  });
}
