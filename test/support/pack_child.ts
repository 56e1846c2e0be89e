/** A process that packs slowly (5 ms a sample), to be killed half-way or to run beside another. Argument: cache. */
import { setTimeout as sleep } from 'node:timers/promises';
import { packSplit } from '#fornax/data/pack.js';
import { syntheticSplit } from './synthetic_split.js';

const split = syntheticSplit({
  samples: 400,
  onRead: async (i) => {
    await sleep(5);
    if (i === 100) process.send?.('half-way');
  },
});
await packSplit(
  split,
  { channels: 3, shorterSide: null },
  {
    cache: process.argv[2]!,
    onBroken: 'skip',
    onWait: () => process.send?.('waiting'),
  },
);
process.send?.('done');
process.disconnect?.();
