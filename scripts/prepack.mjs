/** What npm runs before it packs: dist is compiled anew, so that nothing stale is published. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { bootstrap, report, root } from './bootstrap.mjs';

try {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  await bootstrap({ addon: false });
} catch (error) {
  process.exitCode = report(error);
}
