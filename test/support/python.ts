/** The Python with PyTorch that FORNAX_PEER_PYTHON names, for round trips through other programs. */
import { execFileSync } from 'node:child_process';

/** Why tests that need Python are skipped, or false: `test('…', { skip: needsPython('torch') }, …)`. */
export function needsPython(...modules: string[]): string | false {
  const python = process.env.FORNAX_PEER_PYTHON;
  if (!python) return 'FORNAX_PEER_PYTHON names no Python';
  const missing = modules.filter((name) => {
    try {
      const probe = `import importlib.util, sys; sys.exit(importlib.util.find_spec("${name}") is None)`;
      execFileSync(python, ['-c', probe], { stdio: 'ignore' });
      return false;
    } catch {
      return true;
    }
  });
  return missing.length > 0 && `the Python of FORNAX_PEER_PYTHON lacks ${missing.join(', ')}`;
}

/** Runs a script with arguments and returns what it printed, as JSON. */
export function python<T>(script: string, args: readonly string[]): T {
  const text = execFileSync(process.env.FORNAX_PEER_PYTHON!, ['-W', 'ignore', '-c', script, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  return JSON.parse(text) as T;
}
