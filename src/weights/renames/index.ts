/** All translations of names, in the order they are tried. */
import { densenetMap } from './densenet.js';
import type { RenameMap } from './rename_map.js';

export type { RenameMap } from './rename_map.js';

export const renameMaps: readonly RenameMap[] = [densenetMap];
