/** What a process that `--nproc` started and its launcher (launch.ts) tell each other. */
import { TrainError } from '../errors.js';

/** `writing` … `written`: it must not be killed in between. */
export type Note = 'lost the others' | 'port is taken' | 'writing' | 'written';

function channel(): NodeJS.Process['send'] | undefined {
  return process.env['FORNAX_LAUNCHED'] === undefined ? undefined : process.send?.bind(process);
}

async function tell(note: Note): Promise<void> {
  const send = channel();
  if (!send) return;
  // Nobody may be left who listens.
  await new Promise<void>((resolve) => send(note, undefined, {}, () => resolve()));
}

/** In a process that was launched: it ends when its launcher does, however that came about. */
export function followLauncher(): void {
  if (process.env['FORNAX_LAUNCHED'] === undefined || !process.channel) return;
  process.on('disconnect', () => process.exit(1));
  process.channel.unref();
}

/** How errors of native/dist/process_group.cc begin, and what they quote of libtorch's. */
const CONNECTION_BROKE = 'the connection to another process of this training broke';
const CANNOT_LISTEN = 'server socket has failed to listen';

/** What a launcher is told of the error that a process ends with; null: nothing. */
export function noteOf(error: unknown): Note | null {
  if (!(error instanceof TrainError)) return null;
  if (error.what.startsWith(CONNECTION_BROKE)) return 'lost the others';
  return error.what.includes(CANNOT_LISTEN) ? 'port is taken' : null;
}

/** In a process that was launched: the error it ends with. */
export async function tellLauncher(error: unknown): Promise<void> {
  const note = noteOf(error);
  if (note) await tell(note);
}

/** Does work that a launcher waits for, whatever became of the other processes: the write of a checkpoint. */
export async function undisturbed<T>(work: () => Promise<T>): Promise<T> {
  const told = tell('writing');
  try {
    return await work();
  } finally {
    // In this order also where the work was shorter than the message.
    void told.then(() => tell('written'));
  }
}

/** Whether signals may come twice: from whoever stops all processes of a job, and once more from a launcher. */
export function signalsArePassedOn(): boolean {
  return process.env['FORNAX_LAUNCHED'] !== undefined || process.env['RANK'] !== undefined;
}
