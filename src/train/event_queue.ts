/** Turns a job that reports by a callback into something to iterate over. */

/** Events wait here until the consumer asks for them; it may be slower than the job. */
export class EventQueue<T> implements AsyncIterable<T> {
  private readonly events: T[] = [];
  private wake: (() => void) | null = null;
  private ended = false;
  /** Anything may be thrown, `null` too. */
  private failure: { error: unknown } | null = null;

  push(event: T): void {
    this.events.push(event);
    this.wake?.();
  }

  /** No more events follow. */
  end(): void {
    this.ended = true;
    this.wake?.();
  }

  /** No more events follow, and after those that wait the consumer gets the error. */
  fail(error: unknown): void {
    this.failure = { error };
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    for (;;) {
      while (this.events.length > 0) yield this.events.shift()!;
      if (this.ended) {
        if (this.failure) throw this.failure.error;
        return;
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
      this.wake = null;
    }
  }
}
