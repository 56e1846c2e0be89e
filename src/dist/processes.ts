/** The processes of one training, and how they come to the same decisions. One process is the simple case. */
import { TrainError } from '../errors.js';
import type { AnyLoaderOptions, NativeProcessGroup } from '../native/contract.js';
import { loadAddon } from '../native.js';
import { coresEach, type Place } from './place.js';

export class Processes {
  private constructor(
    private readonly place: Place | null,
    /** Null: this process is alone. */
    readonly group: NativeProcessGroup | null,
  ) {}

  static readonly alone = new Processes(null, null);

  /**
   * Waits for the others.
   *
   * @param device of training: `cuda:N` or `cpu`.
   * @param timeoutSeconds for the others to come, and for their part of each sum. Default 1800.
   * @throws TrainError if they do not come.
   */
  static async connect(place: Place | null, device: string, timeoutSeconds?: number): Promise<Processes> {
    if (!place) return Processes.alone;
    const { rank, world, host, port } = place;
    const { env } = process;
    // torchrun listens itself, and starts over on the same port when a process fails.
    const launcherListens = env['TORCHELASTIC_USE_AGENT_STORE'] === 'True';
    const run = [env['TORCHELASTIC_RUN_ID'], env['TORCHELASTIC_RESTART_COUNT'], env['FORNAX_LAUNCHED']];
    const group = await loadAddon().connectProcesses({
      rank,
      world,
      host,
      port,
      device,
      server: rank === 0 && !launcherListens,
      prefix: ['fornax', ...run.filter((part) => part !== undefined)].join('/'),
      ...(timeoutSeconds === undefined ? {} : { timeout_seconds: timeoutSeconds }),
      ...networkInterface(place),
    });
    return new Processes(place, group);
  }

  get rank(): number {
    return this.place?.rank ?? 0;
  }
  get world(): number {
    return this.place?.world ?? 1;
  }
  get localRank(): number {
    return this.place?.localRank ?? 0;
  }
  /** Writes and reports. */
  get leads(): boolean {
    return this.rank === 0;
  }
  /** Of the loader, unless configured: what computing leaves. Undefined: the loader's own default. */
  get loaderThreads(): number | undefined {
    return this.place ? Math.max(1, coresEach(this.place) - 1) : undefined;
  }

  /** What every process has to say, by rank. JSON. */
  async gather<T>(value: T): Promise<T[]> {
    if (!this.group) return [value];
    const texts = await this.group.gather(JSON.stringify({ value }));
    return texts.map((text) => (JSON.parse(text) as { value: T }).value);
  }

  /** Rank 0 does the work and everyone gets its result. */
  async lead<T>(work: () => T | Promise<T>): Promise<T> {
    const result = this.leads ? await work() : null;
    if (!this.group) return result as T;
    const [led] = await this.gather(result);
    return this.leads ? (result as T) : (led as T);
  }

  /** @throws TrainError if the processes do not hold the same, by name. */
  async requireSame(values: Readonly<Record<string, string>>): Promise<void> {
    if (!this.group) return;
    const all = await this.gather(values);
    for (const [rank, theirs] of all.entries()) {
      const differing = Object.keys(values).filter((name) => theirs[name] !== all[0]![name]);
      if (differing.length === 0) continue;
      throw new TrainError({
        what: `rank ${rank} has another ${differing.join(' and another ')} than rank 0`,
        where: `rank ${this.rank} of ${this.world}`,
        fix: 'start all processes with the same config and the same images',
      });
    }
  }

  /** This process's part of every batch; `batch_size` is that of one process. */
  shard(options: AnyLoaderOptions, samples: number): AnyLoaderOptions {
    if (!this.place) return options;
    const { rank, world } = this.place;
    const whole = options.batch_size * world;
    const rest = samples % whole;
    return {
      ...options,
      shard: { rank, world },
      // Batch norm cannot train on a single sample, which the last batch of an epoch may leave to a process.
      drop_last: samples > whole && rest > 0 && rest < 2 * world,
    };
  }

  [Symbol.dispose](): void {
    this.group?.dispose();
  }
}

/** Gloo goes over the loopback where that reaches everyone, else as torch does. */
function networkInterface({ world, localWorld }: Place): { interface?: string } {
  const chosen = process.env['GLOO_SOCKET_IFNAME']?.split(',')[0];
  if (chosen) return { interface: chosen };
  return world === localWorld ? { interface: 'localhost' } : {};
}
