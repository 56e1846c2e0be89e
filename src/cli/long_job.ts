/** What every long command does around its job: a progress reporter, Ctrl-C, the exit code of an interruption. */
import type { Report } from '../train/events.js';
import { createReporter } from './progress.js';
import { listenForSignals } from './signals.js';

export interface LongJobOptions {
  json: boolean;
  /** What the job does when it is interrupted: `finishing the step and writing a checkpoint`. */
  whatNow: string;
}

export interface JobContext {
  report: Report;
  signal: AbortSignal;
  /** What interrupted the job, once `signal` has fired. */
  interruptedBy(): 'SIGINT' | 'SIGTERM' | null;
}

/**
 * Runs a job; whatever happens, the terminal is given back and the handlers of signals are taken off. After a
 * signal the exit code of the process is 130 or 143, whether the job returned or threw.
 */
export async function runLongJob<T>(
  options: LongJobOptions,
  job: (context: JobContext) => Promise<T>,
): Promise<T> {
  const reporter = createReporter({ json: options.json });
  const interruption = listenForSignals(options.whatNow, () => reporter.close());
  try {
    return await job({
      report: reporter.report,
      signal: interruption.signal,
      interruptedBy: () => interruption.received(),
    });
  } finally {
    reporter.close();
    interruption[Symbol.dispose]();
    process.exitCode = interruption.exitCode() ?? process.exitCode;
  }
}
