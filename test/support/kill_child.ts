/**
 * Goes on with the run whose config comes on stdin until it ends or is killed. Prints `ready` when it begins and
 * `start` before the first step.
 */
import { text } from 'node:stream/consumers';

import type { Config } from '#fornax/config/schema.js';
import { trainJob } from '#fornax/train/job.js';

const config = JSON.parse(await text(process.stdin)) as Config;
process.stdout.write('ready\n');
await trainJob(config, {
  resume: 'auto',
  report: ({ type }) => {
    if (type === 'start') process.stdout.write('start\n');
  },
});
