/**
 * What npm runs after installing. In a clone: compiles TypeScript and builds the addon, so that `npm install`
 * alone gives a usable CLI. (npm runs this instead of node-gyp although there is a binding.gyp: that one serves
 * only a `node-gyp rebuild` by hand, and node-gyp-build's fallback, which is one.) As a dependency of another package: nothing is compiled (npm may block this script
 * anyway), only what is missing is said. Never fails the installation: `fornax doctor` tells what is wrong, and
 * `fornax build` repairs it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bootstrap, report, root } from './bootstrap.mjs';

const isClone = existsSync(join(root, 'binding.gyp')) && existsSync(join(root, 'tsconfig.json'));
const usable = ['build/Release', 'prebuilds'].some((folder) => existsSync(join(root, folder)));

if (isClone) {
  try {
    await bootstrap({ packages: false });
  } catch (error) {
    report(error);
    process.stderr.write(
      'fornax: installed, but its native part is not built. After the fix: npm run build\n',
    );
  }
} else if (!usable) {
  process.stderr.write('fornax: no prebuilt addon in this package. Build it once with: npx fornax build\n');
}
