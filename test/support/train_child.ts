/** Goes on with the run whose config comes on stdin, and writes a line after every report of steps. */
import { text } from 'node:stream/consumers';

import type { Config } from '#fornax/config/schema.js';
import { trainJob } from '#fornax/train/job.js';

await trainJob(JSON.parse(await text(process.stdin)) as Config, {
  resume: 'auto',
  report: (event) => {
    if (event.type === 'steps') process.stdout.write(`${event.step}\n`);
  },
});
