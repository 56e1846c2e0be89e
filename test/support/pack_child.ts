/**
 * A process that packs and stops half-way until its parent sends a message: to be killed there, or to be waited for.
 * Argument: cache.
 */
import { once } from 'node:events';
import { packSplit } from '#fornax/data/pack.js';
import { syntheticSplit } from './synthetic_split.js';

const split = syntheticSplit({
  samples: 400,
  onRead: async (i) => {
    if (i !== 100) return;
    process.send!('half-way');
    await once(process, 'message');
  },
});
await packSplit(
  split,
  { channels: 3, shorterSide: null },
  {
    cache: process.argv[2]!,
    onBroken: 'skip',
    onWait: () => process.send!('waiting'),
  },
);
process.send!('done');
process.disconnect();
