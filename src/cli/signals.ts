/**
 * Ctrl-C and SIGTERM during a long job. The first one asks the job to stop in good order (finish the step, write
 * a checkpoint); the second stops the process at once.
 */
import { AbortedError } from '../errors.js';
import { EXIT } from './print_error.js';

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
  const codeOf = (name: 'SIGINT' | 'SIGTERM'): number =>
    name === 'SIGINT' ? EXIT.interrupted : EXIT.terminated;
  const handler = (name: NodeJS.Signals): void => {
    if (name !== 'SIGINT' && name !== 'SIGTERM') return;
    if (received !== null) {
      beforeMessage?.();
      process.exit(codeOf(name));
    }
    received = name;
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
