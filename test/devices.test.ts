/** Which device and precision a phase gets, and what is said about it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ArgumentError, ConfigError, DeviceError } from '#fornax/errors.js';
import type { SystemInfo } from '#fornax/native/contract.js';
import { chooseAmp, describeDevice, describeSettings, resolveDevice } from '#fornax/train/devices.js';

function host(cuda: Partial<SystemInfo['cuda']>): SystemInfo {
  return {
    torch_version: '2.14.1',
    torch_cuda: null,
    cpu_capability: 'AVX512',
    cpu_features: {
      avx2: true,
      avx512: true,
      avx512_bf16: false,
      avx512_vnni: false,
      amx_bf16: false,
      amx_int8: false,
    },
    threads: 8,
    interop_threads: 1,
    mkldnn: true,
    mkl: true,
    openmp: true,
    cpu_allocator: 'default',
    cuda: {
      built: true,
      available: false,
      reason: null,
      driver: null,
      runtime: null,
      cudnn: null,
      devices: [],
      ...cuda,
    },
  };
}

function gpu(name: string, capability: string): SystemInfo['cuda']['devices'][number] {
  return { name, capability, memory: 2 ** 37, free: 2 ** 36, multiprocessors: 132 };
}

const h200 = host({ available: true, devices: [gpu('NVIDIA H200', '9.0')] });
const twoOld = host({ available: true, devices: [gpu('Tesla V100', '7.0'), gpu('Tesla T4', '7.5')] });
const noDriver = host({ reason: 'no NVIDIA driver is loaded' });
const cpuBuild = host({ built: false });

test('auto takes the first GPU, else the CPU', () => {
  assert.equal(resolveDevice('auto', h200).device, 'cuda:0');
  assert.equal(resolveDevice('auto', noDriver).device, 'cpu');
  assert.equal(resolveDevice('cuda', twoOld).device, 'cuda:0');
  assert.equal(resolveDevice('cuda:1', twoOld).name, 'Tesla T4');
  assert.equal(resolveDevice('cpu', h200).device, 'cpu');
});

test('asking for a GPU that is not there is an error with the reason', () => {
  assert.throws(
    () => resolveDevice('cuda', noDriver),
    (error) => error instanceof DeviceError && error.message.includes('no NVIDIA driver is loaded'),
  );
  assert.throws(
    () => resolveDevice('cuda:0', cpuBuild),
    (error) => error instanceof DeviceError && error.message.includes('fornax build --cuda'),
  );
  assert.throws(
    () => resolveDevice('cuda:2', twoOld),
    (error) => error instanceof DeviceError && /has 2 GPU.*cuda:0 to cuda:1/s.test(error.message),
  );
  assert.throws(() => resolveDevice('tpu', h200), ArgumentError);
});

test('mixed precision follows the device', () => {
  const on = (setting: 'auto' | 'off' | 'bf16' | 'fp16', request: string, info: SystemInfo): string =>
    chooseAmp(setting, resolveDevice(request, info), info).amp;
  assert.equal(on('auto', 'cpu', h200), 'off');
  assert.equal(on('auto', 'cuda', h200), 'bf16');
  assert.equal(on('auto', 'cuda:1', twoOld), 'fp16');
  assert.equal(on('fp16', 'cuda', h200), 'fp16');
  assert.equal(on('bf16', 'cpu', h200), 'bf16');
  assert.throws(() => on('fp16', 'cpu', h200), ConfigError);
});

test('the line about a phase says where, how and why', () => {
  const line = (
    phase: 'train' | 'eval',
    request: string,
    info: SystemInfo,
    amp?: 'auto' | 'fp16' | 'off',
  ): string => {
    const device = resolveDevice(request, info);
    return describeDevice(phase, device, info, amp && chooseAmp(amp, device, info));
  };
  assert.equal(line('train', 'cuda', h200, 'fp16'), 'Training on cuda:0 (NVIDIA H200), mixed precision fp16');
  assert.match(
    line('train', 'auto', h200, 'auto'),
    /mixed precision bf16 \(amp auto: compute capability 9\.0/,
  );
  assert.equal(line('eval', 'cpu', h200), 'Evaluation on cpu (configured), GPU available');
  assert.equal(line('eval', 'cpu', noDriver), 'Evaluation on cpu (configured)');
  assert.equal(
    line('train', 'auto', noDriver, 'auto'),
    'Training on cpu (AVX512, 8 threads; no NVIDIA driver is loaded), fp32 (amp auto: this CPU has no bf16 arithmetic)',
  );
  const withBf16: SystemInfo = {
    ...noDriver,
    cpu_features: { ...noDriver.cpu_features, avx512_bf16: true },
  };
  assert.match(line('train', 'cpu', withBf16, 'auto'), /fp32 \(amp auto: bf16 for single layers/);
  assert.equal(line('train', 'cpu', noDriver, 'off'), 'Training on cpu (configured), fp32');
});

test('the line about settings names what applies on the device', () => {
  const all = {
    channelsLast: 'auto',
    cudnnBenchmark: true,
    deterministic: false,
    tf32: true,
    flushDenormal: true,
    threads: 'auto',
  } as const;
  const cudnn = host({ ...h200.cuda, cudnn: '9.1' });
  const line = (request: string, info: SystemInfo, changes: object = {}): string =>
    describeSettings({ ...all, ...changes }, resolveDevice(request, info), info);
  assert.equal(line('cuda', cudnn), 'Settings: channels-last, cuDNN benchmark, TF32');
  assert.equal(
    line('cuda', cudnn, { tf32: false, threads: 2 }),
    'Settings: channels-last, cuDNN benchmark, 2 threads',
  );
  assert.equal(line('cuda:1', twoOld), 'Settings: channels-last');
  assert.equal(line('cpu', h200), 'Settings: channels-last, flush denormals, 8 threads');
  assert.equal(
    line('cpu', noDriver, { channelsLast: false, flushDenormal: false, threads: 1 }),
    'Settings: channels-first, 1 thread',
  );
});
