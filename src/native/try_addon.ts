/**
 * The child process of `verifyAddon`: opens everything as asked and exits 0, or writes the reason to stderr.
 * Argument: the OpenRequest as JSON.
 */
import { openAddon, type OpenRequest } from './open_addon.js';

try {
  const addon = openAddon(JSON.parse(process.argv[2] ?? '') as OpenRequest);
  if (typeof addon.Tensor !== 'function')
    throw new Error('the addon has loaded, but it lacks what it must export');
} catch (error) {
  process.stderr.write((error as Error).message);
  process.exitCode = 1;
}
