/**
 * Whether this addon and these libraries can be loaded at all, found out once in a child process: a library that
 * does not fit may kill the process that opens it. The verdict is kept in the cache folder under the files'
 * identities (path, size, time, inode), so that later starts cost nothing.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDir } from '../io/cache_dir.js';
import { fileIdentity } from '../libtorch/inspect.js';
import type { OpenRequest } from './open_addon.js';

const TIMEOUT_MS = 120_000;

/** Where the verdict on this combination is kept. */
function verdictFile(request: OpenRequest, env: NodeJS.ProcessEnv): string {
  const identity = [
    request.loader,
    request.addon,
    ...request.libraries.dependencies,
    ...request.libraries.roots,
  ].map(fileIdentity);
  const key = createHash('sha256')
    .update(JSON.stringify([identity, process.arch]))
    .digest('hex')
    .slice(0, 32);
  return join(cacheDir(env.FORNAX_CACHE), 'verdicts', key);
}

export interface Verdict {
  /** Undefined if it loads. */
  problem: string | undefined;
  fix: string | undefined;
  /** Whether a child process had to be asked. */
  fresh: boolean;
}

/** Only good verdicts are kept: a bad one may be healed by installing something, so it is asked again. */
export function verifyAddon(request: OpenRequest, env: NodeJS.ProcessEnv = process.env): Verdict {
  const file = verdictFile(request, env);
  if (existsSync(file)) return { problem: undefined, fix: undefined, fresh: false };

  const script = fileURLToPath(new URL('./try_addon.js', import.meta.url));
  const child = spawnSync(process.execPath, [script, JSON.stringify(request)], {
    encoding: 'utf8',
    env: { ...env, NODE_OPTIONS: '' },
    timeout: TIMEOUT_MS,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (child.status === 0) {
    try {
      mkdirSync(join(file, '..'), { recursive: true });
      const beside = `${file}.${randomBytes(4).toString('hex')}`;
      writeFileSync(beside, JSON.stringify(request));
      renameSync(beside, file);
    } catch {
      // A read-only cache folder costs half a second at every start; it is no reason not to start.
    }
    return { problem: undefined, fix: undefined, fresh: true };
  }
  return { ...explain(child.status, child.signal, child.error, child.stderr.trim()), fresh: true };
}

function explain(
  status: number | null,
  signal: NodeJS.Signals | null,
  error: Error | undefined,
  message: string,
): { problem: string; fix: string } {
  if (signal === 'SIGILL') {
    return {
      problem:
        'loading it ended with an illegal instruction: this CPU lacks what the library was compiled for',
      fix: 'use a libtorch built for this CPU (FORNAX_LIBTORCH), or build the addon on this machine: npx fornax build',
    };
  }
  if (error ?? signal) {
    const how = signal ? `a crash (${signal})` : (error as Error).message;
    return {
      problem: `loading it in a trial process ended with ${how}${message ? `: ${message}` : ''}`,
      fix: 'reinstall libtorch (or unset FORNAX_LIBTORCH to let Fornax fetch it), then: npx fornax build',
    };
  }
  return { problem: message || `the trial process exited with ${status}`, fix: remedyFor(message) };
}

/** The dynamic linker's usual messages, each with what to do. */
export function remedyFor(message: string): string {
  const rebuild = 'build the addon again for this libtorch: npx fornax build';
  const missing = /(lib[^\s:]+\.so[.\d]*): cannot open shared object file/.exec(message)?.[1];
  if (missing) {
    if (/cu(dart|pti|blas|dnn|fft|sparse|rand|solver|file)|nccl|nvrtc|nvshmem|nvJitLink/.test(missing)) {
      return `the NVIDIA package with ${missing} is missing beside torch: reinstall torch with its dependencies`;
    }
    if (/libstdc\+\+|libgcc_s/.test(missing)) return 'sudo apt-get install -y libstdc++6 libgcc-s1';
    return `install the package that holds ${missing}, or reinstall libtorch`;
  }
  const glibc = /version [`'](GLIBC(?:XX)?_[\d.]+)' not found/.exec(message)?.[1];
  if (glibc)
    return `this system's C or C++ library is too old (${glibc} is needed): use Debian 12, Ubuntu 22.04 or newer`;
  if (/undefined symbol/.test(message)) return rebuild;
  if (/cannot enable executable stack|failed to map|Permission denied/.test(message)) {
    return 'the file system or its permissions forbid loading: check `mount` for noexec and the file modes';
  }
  if (/static TLS/.test(message)) return 'start Fornax without other preloaded libraries (LD_PRELOAD)';
  return rebuild;
}
