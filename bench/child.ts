/** A child process that answers each line of JSON on its standard input with one line of JSON. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

export type Answer = Record<string, unknown>;

export class BenchChild {
  private constructor(
    private readonly child: ChildProcess,
    private readonly read: () => Promise<Answer>,
    /** What it said when it was ready. */
    readonly hello: Answer,
  ) {}

  /**
   * Starts the process and waits until it is ready, for so many seconds at most.
   *
   * @throws Error with its exit code, or saying that it took too long
   */
  static async start(
    command: string,
    args: string[],
    env: NodeJS.ProcessEnv = {},
    seconds?: number,
  ): Promise<BenchChild> {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    const ended = new Promise<never>((_, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        reject(new Error(`${command} ${args[0] ?? ''} ended with ${signal ?? `code ${String(code)}`}`)),
      );
    });
    ended.catch(() => undefined);
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const read = async (): Promise<Answer> => {
      const line = await Promise.race([lines.next(), ended]);
      return line.done ? ended : (JSON.parse(line.value) as Answer);
    };
    let late = false;
    const timer =
      seconds === undefined
        ? null
        : setTimeout(() => {
            late = true;
            child.kill('SIGKILL');
          }, seconds * 1000);
    try {
      return new BenchChild(child, read, await read());
    } catch (error) {
      throw late ? new Error(`it was not ready after ${seconds} s`) : error;
    } finally {
      if (timer) clearTimeout(timer);
    }
  }

  async ask(request: Answer): Promise<Answer> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    return this.read();
  }

  /** Lets it end by itself. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.stdin!.end();
    await exited;
  }
}
