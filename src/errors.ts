/**
 * Every error Fornax throws on purpose. Each says what happened, where, and what to do about it; the native
 * core constructs these very classes (see `setErrorClasses` in native/contract.ts), so that `instanceof` works
 * for errors of either side.
 */
export interface ErrorDetails {
  /** What happened, in one sentence. */
  what: string;
  /** Where: a file with its line, a node of a graph, a key of a config. */
  where?: string;
  /** What to do about it. */
  fix?: string;
  cause?: unknown;
}

export class FornaxError extends Error {
  readonly what: string;
  readonly where: string | undefined;
  readonly fix: string | undefined;
  /** Stable machine-readable code, `FORNAX_` and the class's subject in capitals: `FORNAX_CONFIG`. */
  readonly code: string;

  constructor(details: ErrorDetails | string) {
    const d = typeof details === 'string' ? { what: details } : details;
    super(
      d.what + (d.where ? `\n  at: ${d.where}` : '') + (d.fix ? `\n  fix: ${d.fix}` : ''),
      d.cause === undefined ? undefined : { cause: d.cause },
    );
    this.name = new.target.name;
    this.what = d.what;
    this.where = d.where;
    this.fix = d.fix;
    this.code =
      'FORNAX_' +
      (new.target === FornaxError
        ? 'ERROR'
        : new.target.name
            .replace(/Error$/, '')
            .replace(/([a-z])([A-Z])/g, '$1_$2')
            .toUpperCase());
  }
}

/** Bad command line: exit code 2. */
export class UsageError extends FornaxError {}
/** A config value is missing, of the wrong type, unknown or contradictory: exit code 2. */
export class ConfigError extends FornaxError {}
/** Images, labels or packs that cannot be read or do not fit together. */
export class DataError extends FornaxError {}
/** A device that does not exist, is out of memory, or a setting it does not support. */
export class DeviceError extends FornaxError {}
/** A weights or model file that is broken, incompatible or does not match the model. */
export class WeightsError extends FornaxError {}
/** A graph that is not valid: unknown operator, wrong arity, dangling slot and so on. Names the node. */
export class GraphError extends FornaxError {}
/** An input violates a guard that tracing recorded (a size the model was specialised for). */
export class GuardError extends FornaxError {}
/** An operator failed while a graph ran (shapes that do not fit, a non-finite loss). Names the node. */
export class ExecutionError extends FornaxError {}
/** A model has no counterpart in another program's format: names the node. */
export class ExportError extends FornaxError {}
/** Training cannot start or go on: nothing to resume, changed model or data, non-finite loss. */
export class TrainError extends FornaxError {}
/** libtorch, a compiler or the addon is missing or does not fit. */
export class InstallError extends FornaxError {}
/** A handle was used after `dispose()`. */
export class DisposedError extends FornaxError {}
/** A function was called with an argument of the wrong type or range. */
export class ArgumentError extends FornaxError {}
/** The operation was stopped by an AbortSignal, a signal or teardown. */
export class AbortedError extends FornaxError {}

/** The classes handed to the native core, by name. */
export const errorClasses = {
  FornaxError,
  DataError,
  DeviceError,
  WeightsError,
  GraphError,
  GuardError,
  ExecutionError,
  TrainError,
  DisposedError,
  ArgumentError,
  AbortedError,
} as const;
