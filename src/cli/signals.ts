/**
 * Ctrl-C and SIGTERM during a long job. The first one asks the job to stop in good order (finish the step, write
 * a checkpoint); a second Ctrl-C stops the process at once. A second SIGTERM does not: whoever stops all processes of
 * a job (Slurm, systemd, Kubernetes) reaches this one directly and once more through its launcher.
 */
import { signalsArePassedOn } from '../dist/launched.js';
import { AbortedError } from '../errors.js';
import { EXIT } from './print_error.js';

/** Nobody presses Ctrl-C again so soon: it is the same one, passed on by a launcher. */
const SAME_MS = 1000;

export interface Interruption {
  readonly signal: AbortSignal;
  /** What came, if anything. */
  received(): 'SIGINT' | 'SIGTERM' | null;
  /** 130 or 143 after a signal, else null. */
  exitCode(): number | null;
  /** Stops listening. */
  [Symbol.dispose](): void;
}

/**
 * @param whatNow what the job does before it stops, for the message: `finishing the step and writing a checkpoint`
 * @param beforeMessage clears the progress bar
 */
export function listenForSignals(whatNow: string, beforeMessage?: () => void): Interruption {
  const controller = new AbortController();
  let received: 'SIGINT' | 'SIGTERM' | null = null;
  let at = 0;
  const codeOf = (name: 'SIGINT' | 'SIGTERM'): number =>
    name === 'SIGINT' ? EXIT.interrupted : EXIT.terminated;
  const handler = (name: NodeJS.Signals): void => {
    if (name !== 'SIGINT' && name !== 'SIGTERM') return;
    if (received !== null) {
      const passedOn = signalsArePassedOn() && performance.now() - at < SAME_MS;
      if (name === 'SIGTERM' || passedOn) return;
      beforeMessage?.();
      process.exit(codeOf(name));
    }
    received = name;
    at = performance.now();
    beforeMessage?.();
    const cause = name === 'SIGINT' ? 'Interrupted' : 'Terminated';
    const again = name === 'SIGINT' ? ' (Ctrl-C again stops at once)' : '';
    process.stderr.write(`${cause}: ${whatNow}${again}\n`);
    controller.abort(new AbortedError({ what: `stopped by ${name}` }));
  };
  process.on('SIGINT', handler);
  process.on('SIGTERM', handler);
  return {
    signal: controller.signal,
    received: () => received,
    exitCode: () => (received === null ? null : codeOf(received)),
    [Symbol.dispose]() {
      process.off('SIGINT', handler);
      process.off('SIGTERM', handler);
    },
  };
}
