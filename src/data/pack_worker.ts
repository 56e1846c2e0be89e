/** The other end of pack_process.ts: packs one folder and tells how it goes. */
import { FornaxError } from '../errors.js';
import { scanFolder } from './folder.js';
import { packSplit } from './pack.js';
import type { FromPacker, PackJob } from './pack_process.js';

const stop = new AbortController();

function tell(message: FromPacker): void {
  if (process.connected) process.send!(message);
}

async function work({ folder, classes, name, settings, cache, onBroken }: PackJob): Promise<void> {
  try {
    const split = await scanFolder(folder, { classes, name, allowEmpty: true, signal: stop.signal });
    await packSplit(split, settings, {
      cache,
      onBroken,
      signal: stop.signal,
      onProgress: (progress) => tell({ type: 'progress', progress }),
      onWait: (owner) => tell({ type: 'wait', owner }),
    });
    tell({ type: 'done' });
  } catch (error) {
    const { what, where, fix } =
      error instanceof FornaxError
        ? error
        : { what: String((error as Error).stack), where: folder, fix: undefined };
    tell({ type: 'failed', name: (error as Error).name, what, where, fix });
  }
  if (process.connected) process.disconnect();
}

// Ctrl-C reaches the whole group of processes; the parent decides, and tells by message or by its end.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
process.on('disconnect', () => stop.abort());
process.on('message', (message: PackJob | 'stop') => {
  if (message === 'stop') stop.abort();
  else void work(message);
});
