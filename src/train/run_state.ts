/**
 * What a run must remember beyond weights, optimizer and books: each feature registers a part of its own under a
 * key. Checkpoints hold all parts; a part that was found out by timing (`decided`) also lies in the run's folder
 * from its first step on, so that a run that dies before its first checkpoint begins again as it began.
 */
import { ArgumentError } from '../errors.js';

/** JSON: what `JSON.parse(JSON.stringify(value))` gives back unchanged. */
export type StatePart = unknown;

export interface StateOwner {
  /** In state.json: snake_case, of this feature alone. */
  key: string;
  /** Between steps: the value as it is now; undefined leaves the part out. */
  save(): StatePart;
  /** Called at once by `register`, if there is something saved under this key. Must check what it is given. */
  restore(saved: StatePart): void;
  /** The value rests on a measurement on this machine, taken before the first step. Default false. */
  decided?: boolean;
}

export class RunState {
  private readonly owners = new Map<string, StateOwner>();

  /** @param saved parts of the checkpoint that the run goes on from, or what was decided when it began. */
  constructor(private readonly saved: Readonly<Record<string, StatePart>> = {}) {}

  /**
   * Adds a part and gives it what was saved of it, if anything: a feature that registers before the session opens
   * has its value for the session's options.
   *
   * @returns whether something was restored.
   * @throws ArgumentError if the key is taken; what `restore` throws.
   */
  register(owner: StateOwner): boolean {
    if (this.owners.has(owner.key)) {
      throw new ArgumentError(`the state of a run has a part '${owner.key}' already`);
    }
    this.owners.set(owner.key, owner);
    const saved = this.saved[owner.key];
    if (saved === undefined) return false;
    owner.restore(saved);
    return true;
  }

  /** All parts as they are now, for a checkpoint. */
  save(): Record<string, StatePart> {
    return this.collect([...this.owners.values()]);
  }

  /** The parts that rest on measurements, for the run's folder. */
  saveDecided(): Record<string, StatePart> {
    return this.collect([...this.owners.values()].filter(({ decided }) => decided));
  }

  private collect(owners: readonly StateOwner[]): Record<string, StatePart> {
    const parts = owners.map(({ key, save }) => [key, save()] as const);
    return Object.fromEntries(parts.filter(([, value]) => value !== undefined));
  }
}
