/** Where this process stands among those of one training: torchrun's environment variables. */
import { availableParallelism } from 'node:os';

import { ConfigError } from '../errors.js';

export interface Place {
  /** From 0. Rank 0 evaluates, writes and reports. */
  rank: number;
  /** How many processes there are. */
  world: number;
  /** Rank among those of this machine: which GPU to take. */
  localRank: number;
  /** How many run on this machine. */
  localWorld: number;
  /** Where they find each other. */
  host: string;
  port: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

function wholeNumber(env: Environment, name: string, fallback?: number): number {
  const text = env[name];
  if (text === undefined && fallback !== undefined) return fallback;
  if (text === undefined || !/^\d{1,9}$/.test(text)) {
    throw new ConfigError({
      what: text === undefined ? `${name} is not set` : `${name} is '${text}', not a whole number`,
      where: 'environment',
      fix: 'start with --nproc or torchrun, or set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT for each process; for a single process, unset RANK and WORLD_SIZE',
    });
  }
  return Number(text);
}

/**
 * Null where this process trains alone: RANK is not set, or WORLD_SIZE is 1.
 *
 * @throws ConfigError if the variables are incomplete or contradict each other.
 */
export function findPlace(env: Environment = process.env): Place | null {
  if (env['RANK'] === undefined || env['WORLD_SIZE'] === undefined) return null;
  const world = wholeNumber(env, 'WORLD_SIZE');
  const rank = wholeNumber(env, 'RANK');
  if (rank >= world) {
    throw new ConfigError({
      what: `RANK is ${rank}, but WORLD_SIZE is ${world}`,
      where: 'environment',
      fix: 'ranks count from 0',
    });
  }
  if (world === 1) return null;
  const host = env['MASTER_ADDR'];
  if (!host) wholeNumber(env, 'MASTER_ADDR');
  return {
    rank,
    world,
    localRank: wholeNumber(env, 'LOCAL_RANK', rank),
    localWorld: wholeNumber(env, 'LOCAL_WORLD_SIZE', world),
    host: host!,
    port: wholeNumber(env, 'MASTER_PORT'),
  };
}

/** The cores of this machine, shared out. */
export function coresEach({ localWorld }: Place): number {
  return Math.max(1, Math.floor(availableParallelism() / localWorld));
}

/** Before libtorch is loaded: each process takes its share of the cores, not all of them. */
export function shareCores(place: Place | null): void {
  if (place) process.env['OMP_NUM_THREADS'] ??= String(coresEach(place));
}
