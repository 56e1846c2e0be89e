/** Turns a job that reports by a callback into something to iterate over. */

/** Events wait here until the consumer asks for them; it may be slower than the job. */
export class EventQueue<T> implements AsyncIterable<T> {
  private readonly events: T[] = [];
  private wake: (() => void) | null = null;
  private ended = false;
  private error: unknown = null;

  push(event: T): void {
    this.events.push(event);
    this.wake?.();
  }

  /** No more events follow; with `error` the consumer gets it after the events that wait. */
  end(error: unknown = null): void {
    this.ended = true;
    this.error = error;
    this.wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    for (;;) {
      while (this.events.length > 0) yield this.events.shift()!;
      if (this.ended) {
        if (this.error !== null) throw this.error;
        return;
      }
      await new Promise<void>((resolve) => (this.wake = resolve));
      this.wake = null;
    }
  }
}
