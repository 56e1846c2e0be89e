/** The Python with PyTorch that Fornax is compared with. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Peer {
  python: string;
  /** `PyTorch 2.14.1+cu130`. */
  name: string;
  version: string;
  /** Its libtorch, for Fornax to use the same; null where Fornax was told of another one. */
  libtorch: string | null;
  hasTorchvision: boolean;
  /** Path of a script of bench/peers. */
  script(name: string): string;
}

const probe = `
import importlib.util, json, os, torch
print(json.dumps({"version": torch.__version__, "root": os.path.dirname(torch.__file__),
                  "torchvision": importlib.util.find_spec("torchvision") is not None}))
`;

/** FORNAX_PEER_PYTHON, else the active python3 if it has torch, else null. */
export function findPeer(): Peer | null {
  const named = process.env.FORNAX_PEER_PYTHON;
  const python = named ?? 'python3';
  let found: { version: string; root: string; torchvision: boolean };
  try {
    const text = execFileSync(python, ['-c', probe], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', named ? 'inherit' : 'ignore'],
    });
    found = JSON.parse(text) as typeof found;
  } catch (error) {
    if (named) throw new Error(`FORNAX_PEER_PYTHON=${named} has no torch`, { cause: error });
    return null;
  }
  return {
    python,
    name: `PyTorch ${found.version}`,
    version: found.version,
    libtorch: (process.env.FORNAX_LIBTORCH ?? process.env.LIBTORCH) ? null : found.root,
    hasTorchvision: found.torchvision,
    // The compiled file lies in build/dev/bench.
    script: (name) => fileURLToPath(new URL(`../../../bench/peers/${name}`, import.meta.url)),
  };
}
