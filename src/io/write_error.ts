/** What a file system refuses, as an error that says what to do. */
import { FornaxError } from '../errors.js';

/** A file system's refusal as a FornaxError that says what to do. */
export function writeError(error: unknown, file: string): FornaxError {
  if (error instanceof FornaxError) {
    // The native core names the temporary file, which nobody knows and which is gone.
    return new FornaxError({ what: error.what, where: file, fix: error.fix, cause: error });
  }
  const code = (error as NodeJS.ErrnoException).code;
  const known: Record<string, [string, string]> = {
    ENOSPC: ['the disk is full', 'free some space; nothing that was there before has been touched'],
    EDQUOT: ['the disk quota is used up', 'free some space; nothing that was there before has been touched'],
    EROFS: ['the file system is read-only', 'choose another folder'],
    EACCES: ['writing is not permitted', 'check the permissions of the folder'],
    EPERM: ['writing is not permitted', 'check the permissions of the folder'],
    ENOTDIR: ['a part of the path is a file', 'choose another folder'],
    EEXIST: ['a part of the path is a file', 'choose another folder'],
  };
  const [what, fix] = known[code ?? ''] ?? [
    `the file could not be written (${(error as Error).message})`,
    undefined,
  ];
  return new FornaxError({ what, where: file, fix, cause: error });
}

/** Not refusals, but answers that a caller may be waiting for. */
const ANSWERS: readonly (string | undefined)[] = ['ENOENT', 'EEXIST', 'ENOTEMPTY'];

/** `writeError` for what the file system refused; anything else as it is. */
export function refusedWrite(error: unknown, file: string): unknown {
  const { syscall, code } = error as NodeJS.ErrnoException;
  const refused = error instanceof Error && typeof syscall === 'string' && !ANSWERS.includes(code);
  return refused ? writeError(error, file) : error;
}
