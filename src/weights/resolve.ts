/**
 * From what a person writes (`pretrained: imagenet1k_v2`, a path, an address) to a file on this machine: a local
 * folder of weights first, then the cache, then the network.
 */
import { existsSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

import { WeightsError } from '../errors.js';
import { cacheDir } from '../io/cache_dir.js';
import {
  findPublishedWeights,
  publishedWeights,
  type PublishedWeights,
} from '../models/published_weights.js';
import { download, sha256Of, type DownloadOptions } from './download.js';

export interface ResolveOptions extends Pick<DownloadOptions, 'onProgress' | 'onMessage' | 'signal'> {
  /** Folder of weights that are looked for by their published file names. Default: `$FORNAX_WEIGHTS`. */
  folder?: string | null | undefined;
  /** Default: `$FORNAX_CACHE`, else `~/.cache/fornax`. Downloads go to `weights` in it. */
  cache?: string | null | undefined;
  env?: NodeJS.ProcessEnv;
}

export interface ResolvedWeights {
  file: string;
  /** What is known of it: if it was named, or if it is the published file. */
  published: PublishedWeights | null;
}

/** Whether it is meant as an address, a path, or the name of published weights. */
export function kindOfWeights(given: string): 'url' | 'path' | 'name' {
  if (/^https?:\/\//i.test(given)) return 'url';
  // Names of weights hold nothing that a path or a file name of weights has.
  if (/[/\\.~]/.test(given)) return 'path';
  // A folder is no weights: one called `default` does not hide the name.
  return statSync(given, { throwIfNoEntry: false })?.isFile() ? 'path' : 'name';
}

/**
 * @param given a path, the name of published weights (`imagenet1k_v2`, `default`), or an address with its checksum
 *   (`https://…/weights.pth#sha256=…`, or in the file's name: `resnet18-f37072fd.pth`).
 * @param architecture whose weights are meant by a name; null: names have no meaning.
 * @throws WeightsError if there is no such file or name, a checksum differs, or the network cannot be reached.
 */
export async function resolveWeights(
  given: string,
  architecture: string | null,
  options: ResolveOptions = {},
): Promise<ResolvedWeights> {
  const kind = kindOfWeights(given);
  if (kind === 'url') return { file: await resolveUrl(given, options), published: null };
  if (kind === 'path') {
    const file = given.startsWith('~/') ? path.join(homedir(), given.slice(2)) : given;
    if (existsSync(file)) return { file, published: await recognise(file, architecture) };
    throw new WeightsError({
      what: 'the file of weights does not exist',
      where: file,
      fix: 'check the path; published weights are named without a path (pretrained: default)',
    });
  }
  if (architecture === null) {
    throw new WeightsError({
      what: `'${given}' is no file, and only architectures of the zoo have published weights`,
      fix: 'give the path or the address of a file',
    });
  }
  const published = findPublishedWeights(architecture, given);
  return { file: await locatePublished(published, options), published };
}

/** Published weights given by their path: with the right name, and with the right contents. */
async function recognise(file: string, architecture: string | null): Promise<PublishedWeights | null> {
  const name = path.basename(file);
  const known = architecture === null ? [] : publishedWeights(architecture);
  const published = known.find((entry) => entry.file === name);
  return published && (await sha256Of(file)).startsWith(published.sha256) ? published : null;
}

/** @throws WeightsError for a file that is here under the right name with other contents */
async function checkSum(file: string, sha256: string): Promise<void> {
  const found = await sha256Of(file);
  if (found.startsWith(sha256)) return;
  throw new WeightsError({
    what: `the file is not the published one: its SHA-256 begins with ${found.slice(0, 16)}, not ${sha256}`,
    where: file,
    fix: 'remove it; or, if it is what you want, give its path instead of the name',
  });
}

async function locatePublished(published: PublishedWeights, options: ResolveOptions): Promise<string> {
  const env = options.env ?? process.env;
  const folder = options.folder ?? env.FORNAX_WEIGHTS ?? null;
  for (const place of [folder, weightsCache(options)]) {
    if (!place) continue;
    const file = path.join(place, published.file);
    if (!existsSync(file)) continue;
    await checkSum(file, published.sha256);
    return file;
  }
  // Not ours: what is wrong there is left alone.
  const torchs = path.join(torchCache(env), published.file);
  if (existsSync(torchs) && (await sha256Of(torchs)).startsWith(published.sha256)) return torchs;
  if (published.url === null) {
    throw new WeightsError({
      what: `the weights '${published.name}' of ${published.architecture} are not on this machine, and have no lasting address`,
      fix: `put '${published.file}' (${published.publisher}) into a folder and set FORNAX_WEIGHTS to it, or give its path`,
    });
  }
  const file = path.join(weightsCache(options), published.file);
  const size = published.megabytes === null ? '' : ` (${Math.ceil(published.megabytes)} MiB)`;
  options.onMessage?.(`Fetching ${published.file}${size} from ${new URL(published.url).host}`);
  await download(published.url, file, { ...options, sha256: published.sha256 });
  return file;
}

/** Where downloaded weights are kept. */
function weightsCache(options: Pick<ResolveOptions, 'cache' | 'env'> = {}): string {
  return path.join(cacheDir(options.cache ?? options.env?.FORNAX_CACHE ?? null), 'weights');
}

/** Where torch.hub keeps the same files. */
function torchCache(env: NodeJS.ProcessEnv): string {
  const home = env.TORCH_HOME ?? path.join(env.XDG_CACHE_HOME ?? path.join(homedir(), '.cache'), 'torch');
  return path.join(home, 'hub', 'checkpoints');
}

async function resolveUrl(given: string, options: ResolveOptions): Promise<string> {
  let url: URL;
  let name: string;
  try {
    url = new URL(given);
    name = decodeURIComponent(path.posix.basename(url.pathname)).replace(/[^A-Za-z0-9._-]+/g, '_');
  } catch {
    throw new WeightsError({ what: 'this is no valid address', where: given });
  }
  const stated = /^#sha256=([0-9a-f]{8,64})$/i.exec(url.hash)?.[1] ?? null;
  const sha256 = (stated ?? /-([0-9a-f]{8,64})\.[a-z]+$/.exec(name)?.[1])?.toLowerCase();
  if (sha256 === undefined || name === '') {
    throw new WeightsError({
      what: 'weights from an address need a checksum: whoever controls it, or the way to it, could replace them',
      where: given,
      fix: `append '#sha256=' and the file's SHA-256 (sha256sum FILE), at least its first 8 digits`,
    });
  }
  url.hash = '';
  // Files of one name at two addresses do not get in each other's way.
  const file = path.join(
    weightsCache(options),
    name.includes(sha256) ? name : `${sha256.slice(0, 16)}-${name}`,
  );
  if (existsSync(file)) {
    await checkSum(file, sha256);
    return file;
  }
  options.onMessage?.(`Fetching ${name} from ${url.host}`);
  await download(url.href, file, { ...options, sha256 });
  return file;
}
