/**
 * OpenMP's pools count against the processors even while their threads sleep: beyond them, libgomp's waiting threads go
 * to sleep at once, and training beside an open evaluation session pays for it in every parallel region. So a session
 * that has nothing to do gives its pool up.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { trace } from '#fornax/graph/trace.js';
import type { NativeGraph, NativeTensor } from '#fornax/native/contract.js';
import { loadAddon } from '#fornax/native.js';
import { Conv2d } from '#fornax/nn/index.js';
import { goldenBatch, goldenModel, openSession, stateValues } from './support/training_golden.js';

const { Graph, InferenceSession, Tensor } = loadAddon();
const THREADS = 3;
/** Of a pool, beside the thread that it belongs to. */
const POOL = THREADS - 1;

const threadsNow = (): number => readdirSync('/proc/self/task').length;

/** Waits until as many threads are left; they are given many times what it should take. */
async function untilThreads(count: number): Promise<number> {
  for (let tries = 0; tries < 600 && threadsNow() > count; tries++) await sleep(50);
  return threadsNow();
}

/** Threads right after the work. Its pool ends soon: should the machine stall so long once, it does not five times. */
async function threadsAfter(work: () => Promise<unknown>): Promise<number> {
  let most = 0;
  for (let i = 0; i < 5; i++) {
    await work();
    most = Math.max(most, threadsNow());
  }
  return most;
}

function convolution(): NativeGraph {
  const model = new Graph(trace(new Conv2d(3, 8, 3), { inputs: [[8, 3, 64, 64]] }), { trusted: true });
  model.initialize(1);
  return model;
}

function image(): NativeTensor {
  const pixels = Float32Array.from({ length: 8 * 3 * 64 * 64 }, (_, i) => Math.sin(i));
  return Tensor.fromTypedArray(pixels, [8, 3, 64, 64]);
}

test('an inference session that is idle ends its pool and computes the same afterwards', async () => {
  const model = convolution();
  const session = new InferenceSession(model, { device: 'cpu', threads: THREADS });
  const input = image();
  const forward = async (): Promise<number[]> => {
    const [output] = Object.values(await session.forward({ image: input }));
    return Array.from(output!.toTypedArray() as Float32Array);
  };
  const first = await forward();
  const work = () => session.forward({ image: input });
  const busy = await threadsAfter(work);
  assert.equal(await untilThreads(busy - POOL), busy - POOL, 'its worker stays, its pool does not');
  assert.deepEqual(await forward(), first);
  assert.equal(await threadsAfter(work), busy, 'the pool is there again');
  session.dispose();
});

test('so does a training session between its runs, and goes on as if it had not', async () => {
  const trained = async (pause: boolean): Promise<Record<string, Float32Array>> => {
    const model = goldenModel({ dropout: 0.2 });
    const session = openSession(model, { threads: THREADS, flush_denormal: true, channels_last: true });
    let step = 0;
    const work = () => session.step(goldenBatch((step++ % 4) * 16, 16));
    const busy = await threadsAfter(work);
    if (pause) assert.equal(await untilThreads(busy - POOL), busy - POOL);
    await threadsAfter(work);
    session.dispose();
    return stateValues(model);
  };
  assert.deepEqual(await trained(true), await trained(false));
});
