/**
 * Fetches one file over HTTP(S) into its place: into `<file>.part` first, from where an interrupted download
 * goes on; checked against its SHA-256; then renamed. Two processes that want the same file wait for each other.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, promises as fs, readFileSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { rootCertificates } from 'node:tls';

import { AbortedError, WeightsError } from '../errors.js';
import { fsync } from '../io/atomic.js';
import { makeFolders } from '../io/folders.js';
import { withLock } from '../io/lock.js';

export interface DownloadOptions {
  /** The whole SHA-256 in hex, or its first digits (at least 8). */
  sha256: string;
  onProgress?: ((done: number, total: number | null) => void) | undefined;
  onMessage?: ((message: string) => void) | undefined;
  signal?: AbortSignal | undefined;
  env?: NodeJS.ProcessEnv;
  /** Waits between attempts, ms. Default 1 s, 4 s. */
  retryMs?: readonly number[];
}

/** For logs: turns progress into a line at every tenth (every 100 MB where the size is not known). */
export function everyTenth(say: (text: string) => void): (done: number, total: number | null) => void {
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
  let last = -1;
  return (done, total) => {
    const now = Math.floor(done / (total === null ? 1e8 : Math.max(1, total / 10)));
    if (now !== last) say(total === null ? `${mb(done)} MB` : `${mb(done)} of ${mb(total)} MB`);
    last = now;
  };
}

/** More than any file of weights. */
const MAX_BYTES = 64 * 2 ** 30;
const STALL_MS = 60_000;

/** The server's answer is final: asking again does not help. */
class Refused extends Error {}

/** Downloads `url` to `file`, unless it is there already. */
export async function download(url: string, file: string, options: DownloadOptions): Promise<void> {
  await makeFolders(path.dirname(file));
  await withLock(
    `${file}.lock`,
    async () => {
      if (existsSync(file)) return; // another process was quicker
      await fetchChecked(url, file, options);
    },
    {
      signal: options.signal,
      onWait: (owner) =>
        options.onMessage?.(`waiting for ${owner}, which is fetching ${path.basename(file)}`),
    },
  );
}

async function fetchChecked(url: string, file: string, options: DownloadOptions): Promise<void> {
  const part = `${file}.part`;
  for (let round = 0; ; round++) {
    const resumed = (await sizeOf(part)) > 0;
    await fetchWithRetries(url, part, options);
    const found = await sha256Of(part);
    if (found.startsWith(options.sha256.toLowerCase())) break;
    await fs.rm(part, { force: true });
    // The beginning may have been of another version of the file, or damaged: once more from the start.
    if (resumed && round === 0) {
      options.onMessage?.(
        'the resumed download does not have the expected checksum: fetching it from the start',
      );
      continue;
    }
    throw new WeightsError({
      what: `what ${host(url)} delivered is not the expected file: its SHA-256 begins with ${found.slice(0, 16)}, not ${options.sha256}`,
      where: url,
      fix: 'a proxy in between may have changed it, or the file was replaced: nothing was kept. Check the address and the checksum',
    });
  }
  await fsync(part);
  await fs.rename(part, file);
  await fsync(path.dirname(file));
}

async function sizeOf(file: string): Promise<number> {
  const stat = await fs.stat(file).catch(() => null);
  return stat?.size ?? 0;
}

export async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

function host(url: string): string {
  return new URL(url).host;
}

/** A connection that breaks is taken up again where it broke; as long as that brings bytes, without limit. */
async function fetchWithRetries(url: string, part: string, options: DownloadOptions): Promise<void> {
  const waits = options.retryMs ?? [1000, 4000];
  for (let attempt = 0; ;) {
    const before = await sizeOf(part);
    try {
      return await fetchOnce(url, part, options);
    } catch (error) {
      if (options.signal?.aborted) {
        throw new AbortedError({
          what: 'the download was stopped',
          where: url,
          fix: 'call it again: it goes on',
        });
      }
      if ((error as NodeJS.ErrnoException).code === 'ENOSPC') {
        throw new WeightsError({
          what: 'the disk is full',
          where: part,
          fix: 'free some space, or set FORNAX_CACHE to a folder on a larger disk, and try again (what was fetched is kept)',
          cause: error,
        });
      }
      if ((await sizeOf(part)) > before) attempt = 0;
      const wait = waits[attempt++];
      if (error instanceof Refused || wait === undefined) throw unreachable(url, part, error);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

function unreachable(url: string, part: string, error: unknown): WeightsError {
  const { message, cause } = error as Error;
  const reason = cause instanceof Error && cause.message !== '' ? cause.message : message;
  const file = path.basename(part, '.part');
  return new WeightsError({
    what: `the weights cannot be fetched: ${reason}`,
    where: url,
    fix:
      'check the network (HTTPS_PROXY and SSL_CERT_FILE are honoured) and try again, it goes on where it stopped; ' +
      `or fetch '${file}' elsewhere and put it into a folder that FORNAX_WEIGHTS names`,
    cause: error,
  });
}

async function fetchOnce(url: string, part: string, options: DownloadOptions): Promise<void> {
  const { fetch, EnvHttpProxyAgent } = await import('undici');
  const ca = certificates(options.env ?? process.env);
  const dispatcher = new EnvHttpProxyAgent({
    headersTimeout: STALL_MS,
    bodyTimeout: STALL_MS,
    ...(ca ? { connect: { ca }, requestTls: { ca }, proxyTls: { ca } } : {}),
  });
  try {
    const done = await sizeOf(part);
    const response = await fetch(url, {
      dispatcher,
      headers: { 'accept-encoding': 'identity', ...(done > 0 ? { range: `bytes=${done}-` } : {}) },
      ...(options.signal ? { signal: options.signal } : {}),
    });
    // All is there already, or the file at the address is shorter: the checksum will tell.
    if (response.status === 416 && done > 0) return void (await response.body?.cancel());
    if (response.status !== 200 && response.status !== 206) {
      await response.body?.cancel();
      const text = `${host(url)} answers ${response.status} ${response.statusText}`.trim();
      throw response.status >= 500 || response.status === 429 ? new Error(text) : new Refused(text);
    }
    const start = response.status === 206 ? rangeStart(response.headers.get('content-range')) : 0;
    if (start !== done && start !== 0)
      throw new Refused(`${host(url)} delivers another part than was asked for`);
    const length = response.headers.get('content-length');
    const total = length === null ? null : start + Number(length);
    if (total !== null && total > MAX_BYTES) throw new Refused(`a file of ${total} bytes`);
    if (!response.body) throw new Error(`${host(url)} delivers nothing`);
    const handle = await fs.open(part, start > 0 ? 'r+' : 'w');
    try {
      let at = start;
      options.onProgress?.(at, total);
      for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
        if (at + chunk.length > MAX_BYTES) throw new Refused('the file does not end');
        await handle.write(chunk, 0, chunk.length, at);
        at += chunk.length;
        options.onProgress?.(at, total);
      }
      await handle.truncate(at);
      if (total !== null && at < total) throw new Error(`the connection broke at ${at} of ${total} bytes`);
    } finally {
      await handle.close();
    }
  } finally {
    await dispatcher.close().catch(() => undefined);
  }
}

function rangeStart(header: string | null): number {
  const match = /^bytes (\d+)-/.exec(header ?? '');
  return match ? Number(match[1]) : -1;
}

/** Certificates of a company's proxy, wherever other tools have them: Node itself reads NODE_EXTRA_CA_CERTS. */
function certificates(env: NodeJS.ProcessEnv): string[] | null {
  const files = [
    env.SSL_CERT_FILE,
    env.npm_config_cafile,
    env.PIP_CERT,
    env.REQUESTS_CA_BUNDLE,
    env.CURL_CA_BUNDLE,
  ];
  const found = [...new Set(files)].filter((file): file is string => Boolean(file) && existsSync(file!));
  return found.length === 0
    ? null
    : [...rootCertificates, ...found.map((file) => readFileSync(file, 'utf8'))];
}
