/** The processes that train together. Part of contract.ts. */
import type { DeviceName, NativeHandle } from './tensors.js';

export interface ProcessGroupOptions {
  rank: number;
  /** How many processes. */
  world: number;
  /** Where they find each other. */
  host: string;
  port: number;
  /** Listen there: rank 0, unless a launcher does. */
  server: boolean;
  /** Of names on a server that others use, too. Default `fornax`. */
  prefix?: string;
  /** Name of a network interface; `localhost`: all on this machine. Default: that of the host's name. */
  interface?: string;
  /** Where tensors are summed: NCCL for `cuda:N`, Gloo for `cpu`. */
  device: DeviceName;
  /** Of a connection and of a sum over the processes. Default 1800. */
  timeout_seconds?: number;
}

/** The processes of one training. All must ask the same of it in the same order. */
export interface NativeProcessGroup extends NativeHandle {
  readonly rank: number;
  readonly world: number;
  /** The texts of all processes, by rank. TrainError if one of them is gone. One call at a time. */
  gather(text: string): Promise<string[]>;
}
