/**
 * The native sessions through which a model's own `forward` runs: one for each device, made on first use. Runs
 * may overlap; a change of the graph waits for those under way and keeps new ones out until it is done.
 */
import type { InferenceOptions, NativeGraph, NativeInference } from '../native/contract.js';
import { loadAddon } from '../native.js';

export class Sessions {
  private readonly sessions = new Map<string, NativeInference>();
  private readonly running = new Set<Promise<unknown>>();
  private exclusive: Promise<unknown> | null = null;
  private stale = false;

  constructor(private readonly graph: NativeGraph) {}

  /** The weights changed: sessions that hold copies take them again. */
  markStale(): void {
    this.stale = true;
  }

  private get(options: InferenceOptions): NativeInference {
    if (this.stale) {
      for (const session of this.sessions.values()) session.refresh();
      this.stale = false;
    }
    const key = JSON.stringify(options);
    let session = this.sessions.get(key);
    if (!session) {
      session = new (loadAddon().InferenceSession)(this.graph, options);
      this.sessions.set(key, session);
    }
    return session;
  }

  /** Runs `work` beside others. */
  async shared<T>(options: InferenceOptions, work: (session: NativeInference) => Promise<T>): Promise<T> {
    while (this.exclusive) await this.exclusive.catch(() => undefined);
    const run = work(this.get(options));
    this.running.add(run);
    try {
      return await run;
    } finally {
      this.running.delete(run);
    }
  }

  /**
   * Waits until nothing runs, lets `change` alter the graph, makes new sessions and runs `work` before anybody
   * else gets in.
   */
  async afterChange<T>(
    options: InferenceOptions,
    change: () => void,
    work: (session: NativeInference) => Promise<T>,
  ): Promise<T> {
    while (this.exclusive) await this.exclusive.catch(() => undefined);
    const run = (async () => {
      await Promise.allSettled(this.running);
      this.disposeSessions();
      change();
      return work(this.get(options));
    })();
    this.exclusive = run;
    try {
      return await run;
    } finally {
      if (this.exclusive === run) this.exclusive = null;
    }
  }

  /** Waits until nothing runs, and lets nothing run until `change` is done: it changes the weights. */
  async whileIdle<T>(change: () => Promise<T>): Promise<T> {
    while (this.exclusive) await this.exclusive.catch(() => undefined);
    const run = (async () => {
      await Promise.allSettled(this.running);
      return change();
    })();
    this.exclusive = run;
    try {
      return await run;
    } finally {
      this.stale = true;
      if (this.exclusive === run) this.exclusive = null;
    }
  }

  private disposeSessions(): void {
    for (const session of this.sessions.values()) session.dispose();
    this.sessions.clear();
  }

  dispose(): void {
    this.disposeSessions();
  }
}
