/** Writes the files of a list, by its chunks' lengths, and prints their SHA-256 as JSON: for ATEN_CPU_CAPABILITY. */
import { loadAddon } from '#fornax/native.js';

import { bytesOf } from './digest_files.js';

const { file, lists } = JSON.parse(process.argv[2]!) as { file: string; lists: number[][] };
const digests: string[] = [];
for (const list of lists) digests.push(await loadAddon().writeTensors(file, list.map(bytesOf)));
process.stdout.write(JSON.stringify(digests));
