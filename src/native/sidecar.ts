/** The JSON file beside an addon that says what it was built against, readable before anything is opened. */
import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';
import { InstallError } from '../errors.js';

const schema = z.object({
  /** libtorch it was compiled and linked against, `2.14.1`. */
  torch: z.string(),
  /** Node-API version: one binary serves every Node that has it. */
  napi: z.number().int(),
  /** C++ ABI of the standard library; every supported libtorch uses cxx11. */
  abi: z.literal('cxx11'),
  /** CUDA line of the CUDA variant, `13.0`; null for the CPU variant. */
  cuda: z.string().nullable(),
  platform: z.string(),
  arch: z.string(),
  /** Where libtorch lay. Null in a prebuilt addon, which must look for it. */
  libtorch: z.string().nullable(),
  /** Version of Fornax that built it. */
  builder: z.string(),
  /** SHA-256 over the native sources and the build's own files. */
  sources: z.string(),
});

export type Sidecar = z.infer<typeof schema>;

export function sidecarPath(addon: string): string {
  return addon.replace(/\.node$/, '.json');
}

/** @throws InstallError if there is none or it is not one */
export function readSidecar(addon: string): Sidecar {
  const path = sidecarPath(addon);
  if (!existsSync(path)) {
    throw new InstallError({
      what: 'the addon has no description beside it, so what it was built against is unknown',
      where: path,
      fix: 'build it again: npx fornax build',
    });
  }
  try {
    return schema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    throw new InstallError({
      what: 'the description beside the addon cannot be read',
      where: path,
      fix: 'build the addon again: npx fornax build',
      cause,
    });
  }
}
