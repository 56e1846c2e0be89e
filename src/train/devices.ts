/** The one place that knows device names: which device a phase runs on, in which precision, and why. */
import { ArgumentError, ConfigError, DeviceError } from '../errors.js';
import type { SystemInfo } from '../native/contract.js';
import { cudnnBenchmark } from './deterministic.js';

export type Amp = 'off' | 'bf16' | 'fp16';

export interface ResolvedDevice {
  /** `cpu` or `cuda:0`. */
  device: string;
  type: 'cpu' | 'cuda';
  /** `NVIDIA H200`; for a CPU its capability and threads: `AVX512, 8 threads`. */
  name: string;
  /** What was asked for. */
  requested: string;
}

/**
 * Picks the device for a request: `auto` (the first GPU, else the CPU), `cpu`, `cuda` (= `cuda:0`), `cuda:N`.
 * Of several processes on one machine, `auto` and `cuda` give each its own: that of its local rank.
 *
 * @throws DeviceError if a GPU is asked for that is not there; it carries the native core's reason.
 * @throws ArgumentError if the request is none of these.
 */
export function resolveDevice(request: string, info: SystemInfo, localRank = 0): ResolvedDevice {
  const match = /^(auto|cpu|cuda(?::(\d+))?)$/.exec(request);
  if (!match) {
    throw new ArgumentError({ what: `unknown device '${request}'`, fix: 'use auto, cpu, cuda or cuda:N' });
  }
  const cpu = (): ResolvedDevice => ({ device: 'cpu', type: 'cpu', name: cpuName(info), requested: request });
  if (request === 'cpu') return cpu();
  const { cuda } = info;
  if (!cuda.available || cuda.devices.length === 0) {
    if (request === 'auto') return cpu();
    throw new DeviceError({
      what: `the device '${request}' was asked for, but there is no usable GPU: ${noGpuReason(info)}`,
      fix: cuda.built
        ? 'run `fornax doctor` for the details, or use device auto or cpu'
        : 'rebuild with `fornax build --cuda` on a GPU host, or use device auto or cpu',
    });
  }
  // A process that sees only its own GPU calls it the first.
  const index = Number(match[2] ?? (cuda.devices.length === 1 ? 0 : localRank));
  const found = cuda.devices[index];
  if (!found && match[2] === undefined) {
    throw new DeviceError({
      what: `there is a process of local rank ${localRank}, but this machine has ${cuda.devices.length} GPUs`,
      fix: 'start one process for each GPU, or use device cpu',
    });
  }
  if (!found) {
    const last = cuda.devices.length - 1;
    throw new DeviceError({
      what: `the device '${request}' does not exist: this machine has ${cuda.devices.length} GPU(s)`,
      fix: last === 0 ? 'use cuda:0' : `use cuda:0 to cuda:${last}`,
    });
  }
  return { device: `cuda:${index}`, type: 'cuda', name: found.name, requested: request };
}

function cpuName(info: SystemInfo): string {
  return `${info.cpu_capability}, ${info.threads} thread${info.threads === 1 ? '' : 's'}`;
}

/** Why there is no GPU, in words. */
function noGpuReason(info: SystemInfo): string {
  return info.cuda.reason ?? (info.cuda.built ? 'no GPU was found' : 'this build has no CUDA support');
}

/**
 * Mixed precision for training. `auto`: on GPUs bf16 from compute capability 8.0 (Ampere), as it needs no loss
 * scaling and is as fast as fp16 there; fp16 on older ones; off on a CPU, whose layers are measured one by one
 * (precision.ts).
 *
 * @throws ConfigError for fp16 on a CPU, where gradients would underflow without a scaler and nothing gets faster.
 */
export function chooseAmp(
  setting: 'auto' | Amp,
  device: ResolvedDevice,
  info: SystemInfo,
): { amp: Amp; reason: string } {
  if (setting === 'fp16' && device.type === 'cpu') {
    throw new ConfigError({
      what: 'mixed precision fp16 needs a GPU',
      where: 'train.amp',
      fix: 'use amp: auto, bf16 or off, or train on cuda',
    });
  }
  if (setting !== 'auto') return { amp: setting, reason: 'configured' };
  if (device.type === 'cpu') {
    const { avx512_bf16, amx_bf16 } = info.cpu_features;
    return {
      amp: 'off',
      reason:
        avx512_bf16 || amx_bf16
          ? 'amp auto: bf16 for single layers, where it is faster as measured'
          : 'amp auto: this CPU has no bf16 arithmetic',
    };
  }
  const capability = info.cuda.devices[Number(device.device.slice('cuda:'.length))]?.capability ?? '0.0';
  return Number.parseFloat(capability) >= 8
    ? {
        amp: 'bf16',
        reason: `amp auto: compute capability ${capability} has bf16, which needs no loss scaling`,
      }
    : { amp: 'fp16', reason: `amp auto: compute capability ${capability} has no fast bf16` };
}

const PHASE_NAMES = {
  train: 'Training',
  eval: 'Evaluation',
  export: 'Export',
  predict: 'Prediction',
} as const;
export type Phase = keyof typeof PHASE_NAMES;

/**
 * The line that tells where a phase runs: `Training on cuda:0 (NVIDIA H200), mixed precision fp16`;
 * `Evaluation on cpu (configured), GPU available`.
 */
export function describeDevice(
  phase: Phase,
  device: ResolvedDevice,
  info: SystemInfo,
  precision?: { amp: Amp; reason: string },
): string {
  let line = `${PHASE_NAMES[phase]} on ${device.device}`;
  if (device.type === 'cuda') line += ` (${device.name})`;
  else if (device.requested === 'cpu') {
    line += ' (configured)' + (info.cuda.available && info.cuda.devices.length > 0 ? ', GPU available' : '');
  } else line += ` (${device.name}; ${noGpuReason(info)})`;
  if (precision) {
    line += precision.amp === 'off' ? ', fp32' : `, mixed precision ${precision.amp}`;
    if (precision.reason !== 'configured') line += ` (${precision.reason})`;
  }
  return line;
}

/**
 * The line that tells which settings for speed apply on the device of training:
 * `Settings: channels-last, cuDNN benchmark, TF32`; `Settings: channels-last, flush denormals, 8 threads`.
 */
export function describeSettings(
  train: {
    channelsLast: 'auto' | boolean;
    cudnnBenchmark: 'auto' | boolean;
    deterministic: boolean;
    tf32: boolean;
    flushDenormal: boolean;
    threads: 'auto' | number;
  },
  device: ResolvedDevice,
  info: SystemInfo,
): string {
  const settings = [train.channelsLast === false ? 'channels-first' : 'channels-last'];
  if (device.type === 'cuda') {
    const { capability } = info.cuda.devices[Number(device.device.slice('cuda:'.length))] ?? {};
    if (cudnnBenchmark(train) && info.cuda.cudnn !== null) settings.push('cuDNN benchmark');
    // Older GPUs have no such units.
    if (train.tf32 && Number.parseFloat(capability ?? '0') >= 8) settings.push('TF32');
  } else if (train.flushDenormal) settings.push('flush denormals');
  if (device.type === 'cpu' || train.threads !== 'auto') {
    const threads = train.threads === 'auto' ? info.threads : train.threads;
    settings.push(`${threads} thread${threads === 1 ? '' : 's'}`);
  }
  if (train.deterministic) settings.push('deterministic');
  return `Settings: ${settings.join(', ')}`;
}
