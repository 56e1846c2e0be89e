/** Several processes train what one process would train with all their batches together. On CPUs, over Gloo. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { findPlace } from '#fornax/dist/place.js';
import { Processes } from '#fornax/dist/processes.js';
import { AbortedError, ArgumentError, ConfigError, DisposedError, TrainError } from '#fornax/errors.js';
import { loadAddon } from '#fornax/native.js';
import { freePort, runTogether } from './support/dist_processes.js';
import { stateOf, traceTinyCnn, trainTinyCnn, type DistTraining } from './support/dist_training.js';
import { imageSize, writeColourPack } from './support/training_pack.js';

// Batches of 16 leave 7: 4 for one process and 3 for the other.
const pack = writeColourPack(71);
after(() => pack.remove());

const common = { shard: pack.shard, samples: pack.samples, epochs: 1, gradAccum: 1, syncBatchNorm: true };
const sgd = { name: 'sgd', momentum: 0.9, nesterov: true } as const;

interface Trained {
  losses: number[];
  state: Record<string, number[]>;
}

function trainTogether(world: number, training: DistTraining): Promise<Trained[]> {
  return runTogether<Trained>('dist_child.js', world, training, 600);
}

async function trainAlone(training: DistTraining): Promise<Trained> {
  const model = traceTinyCnn(0);
  const losses = await trainTinyCnn(model, { ...training, processes: Processes.alone });
  return { losses, state: stateOf(model) };
}

function largestDifference(a: Trained['state'], b: Trained['state']): number {
  assert.deepEqual(Object.keys(a), Object.keys(b));
  return Math.max(...Object.keys(a).flatMap((name) => a[name]!.map((x, i) => Math.abs(x - b[name]![i]!))));
}

function assertLosses(actual: number[], expected: number[], tolerance: number): void {
  assert.equal(actual.length, expected.length);
  actual.forEach((loss, i) => {
    assert.ok(Math.abs(loss - expected[i]!) <= tolerance, `step ${i + 1}: ${loss}, expected ${expected[i]}`);
  });
}

for (const gradAccum of [1, 2]) {
  test(`two processes equal one at twice the batch: sgd, synchronised batch norm, grad_accum ${gradAccum}`, async () => {
    const alone = await trainAlone({ ...common, optimizer: sgd, batchSize: 16, gradAccum });
    const [first, second] = await trainTogether(2, { ...common, optimizer: sgd, batchSize: 8, gradAccum });
    assert.equal(largestDifference(first!.state, second!.state), 0, 'all processes hold the same weights');
    const difference = largestDifference(first!.state, alone.state);
    assert.ok(difference <= 1e-5, `weights and statistics differ by ${difference}`);
    assertLosses(first!.losses, alone.losses, 1e-5);
    assert.deepEqual(second!.losses, first!.losses);
    assert.ok(largestDifference(alone.state, stateOf(traceTinyCnn(0))) > 1e-2, 'the weights were trained');
  });
}

test('batches of different sizes in one step weigh by their rows in several processes, too', async () => {
  // 32, 32 and 7 samples: the last of the group is smaller.
  const training = { ...common, optimizer: sgd, gradAccum: 3, epochs: 2 };
  const alone = await trainAlone({ ...training, batchSize: 32 });
  const [first, second] = await trainTogether(2, { ...training, batchSize: 16 });
  assert.equal(largestDifference(first!.state, second!.state), 0, 'all processes hold the same weights');
  const difference = largestDifference(first!.state, alone.state);
  assert.ok(difference <= 1e-5, `weights and statistics differ by ${difference}`);
  assertLosses(first!.losses, alone.losses, 1e-5);
});

test('three processes, too: adamw by its losses', async () => {
  const optimizer = { name: 'adamw' } as const;
  // Whole batches of 24 leave 23.
  const alone = await trainAlone({ ...common, optimizer, batchSize: 24, epochs: 2 });
  const together = await trainTogether(3, { ...common, optimizer, batchSize: 8, epochs: 2 });
  for (const { losses } of together) assertLosses(losses, alone.losses, 1e-4);
});

test('without synchronised batch norm each process has statistics of its own, and the weights differ', async () => {
  const training = { ...common, optimizer: sgd, batchSize: 8, syncBatchNorm: false };
  const alone = await trainAlone({ ...training, batchSize: 16 });
  const [first, second] = await trainTogether(2, training);
  assert.ok(largestDifference(first!.state, alone.state) > 1e-4);
  assert.deepEqual(first!.state['conv1.weight'], second!.state['conv1.weight']);
  assert.notDeepEqual(first!.state['bn1.running_mean'], second!.state['bn1.running_mean']);
});

test('a loader of rank r delivers items r, r + world, … of the same batches', async () => {
  const { Loader } = loadAddon();
  const options = {
    shards: [pack.shard],
    channels: 3 as const,
    shuffle: true,
    seed: 3,
    augment: {
      size: [imageSize, imageSize] as [number, number],
      crop: { kind: 'random_crop' as const, padding: 2 },
      hflip: 0.5,
    },
  };
  const world = 3;
  const whole = new Loader({ ...options, batch_size: 12 });
  const parts = [0, 1, 2].map(
    (rank) => new Loader({ ...options, batch_size: 4, shard: { rank, world }, threads: rank + 1 }),
  );
  const bytes = imageSize * imageSize * 3;
  for (const loader of [whole, ...parts]) loader.startEpoch(2, 1);
  assert.deepEqual(
    parts.map(({ samples }) => samples),
    [24, 24, 23],
  );
  for (let batch = 1; batch < whole.batches; batch++) {
    const all = (await whole.next())!;
    const indices = all['index']!.toTypedArray();
    const images = all['image']!.toTypedArray() as Uint8Array;
    for (const [rank, loader] of parts.entries()) {
      const part = (await loader.next())!;
      const mine = part['image']!.toTypedArray() as Uint8Array;
      const expected = [...indices].filter((_, i) => i % world === rank);
      assert.deepEqual([...part['index']!.toTypedArray()], expected);
      expected.forEach((_, i) => {
        const at = (i * world + rank) * bytes;
        assert.deepEqual(mine.subarray(i * bytes, (i + 1) * bytes), images.subarray(at, at + bytes));
      });
    }
  }
  for (const loader of parts) assert.equal(await loader.next(), null);
  // 71 = 5 × 14 + 1
  assert.throws(
    () => new Loader({ ...options, batch_size: 7, shard: { rank: 0, world: 2 } }),
    (error) => error instanceof ArgumentError && /1 samples for 2 processes/.test(error.what),
  );
  assert.throws(
    () => new Loader({ ...options, batch_size: 7, shard: { rank: 2, world: 2 } }),
    (error) => error instanceof ArgumentError && /shard/.test(error.what),
  );
});

test('the place comes from the variables that torchrun sets', () => {
  assert.equal(findPlace({}), null);
  assert.equal(findPlace({ RANK: '0', WORLD_SIZE: '1' }), null);
  const complete = {
    RANK: '5',
    WORLD_SIZE: '8',
    LOCAL_RANK: '1',
    LOCAL_WORLD_SIZE: '4',
    MASTER_ADDR: 'node-0',
    MASTER_PORT: '29500',
  };
  assert.deepEqual(findPlace(complete), {
    rank: 5,
    world: 8,
    localRank: 1,
    localWorld: 4,
    host: 'node-0',
    port: 29500,
  });
  for (const [changes, message] of [
    [{ MASTER_ADDR: undefined }, /MASTER_ADDR is not set/],
    [{ MASTER_PORT: 'x' }, /MASTER_PORT is 'x'/],
    [{ RANK: '8' }, /RANK is 8, but WORLD_SIZE is 8/],
  ] as const) {
    assert.throws(
      () => findPlace({ ...complete, ...changes }),
      (error) => error instanceof ConfigError && message.test(error.what),
    );
  }
});

test('texts are gathered by rank, however long one takes; dispose() ends the wait', async () => {
  const options = { world: 2, host: '127.0.0.1', port: await freePort(), device: 'cpu', timeout_seconds: 5 };
  const [first, second] = await Promise.all(
    [0, 1].map((rank) =>
      loadAddon().connectProcesses({ ...options, rank, server: rank === 0, interface: 'localhost' }),
    ),
  );
  assert.deepEqual([first!.rank, second!.rank, first!.world], [0, 1, 2]);
  const early = second!.gather('früh');
  await sleep(6000);
  assert.deepEqual(await first!.gather(''), ['', 'früh']);
  assert.deepEqual(await early, ['', 'früh']);

  const waiting = assert.rejects(second!.gather('alone'), AbortedError);
  await sleep(100);
  second!.dispose();
  await waiting;
  first!.dispose();
  assert.throws(() => first!.gather('x'), DisposedError);
});

test('a group that nobody else joins is a TrainError after its timeout', async () => {
  const options = { rank: 1, world: 2, host: '127.0.0.1', server: false, device: 'cpu', timeout_seconds: 1 };
  await assert.rejects(
    loadAddon().connectProcesses({ ...options, port: await freePort(), interface: 'localhost' }),
    (error) => error instanceof TrainError && /rank 1 of 2 cannot reach/.test(error.what),
  );
});
