/** Which optimisations this build can use on this machine. A pure function of what the native core reports. */
import type { SystemInfo } from '../native/contract.js';
import type { Optimisation } from './report.js';

/** Highest compute capability among the GPUs: `9.0` → 9.0. */
function capability(info: SystemInfo): number {
  return Math.max(0, ...info.cuda.devices.map((device) => Number.parseFloat(device.capability)));
}

export function listOptimisations(info: SystemInfo): Optimisation[] {
  const { cuda, cpu_features: cpu } = info;
  const noGpu = cuda.reason ?? 'no GPU';
  const gpu = capability(info);
  /** What needs a GPU of at least `least`. */
  const onGpu = (name: string, least: number, needs: string, good: string): Optimisation => {
    if (!cuda.available) return { name, available: false, reason: `needs a GPU: ${noGpu}` };
    if (gpu < least) {
      return {
        name,
        available: false,
        reason: `${needs}; the best GPU here has compute capability ${gpu.toFixed(1)}`,
      };
    }
    return { name, available: true, reason: good };
  };

  const bf16 = onGpu(
    'AMP bf16',
    8,
    'needs compute capability 8.0 (Ampere)',
    'on the GPU, without loss scaling',
  );
  if (!bf16.available && (cpu.amx_bf16 || cpu.avx512_bf16)) {
    bf16.available = true;
    bf16.reason = `on the CPU (${cpu.amx_bf16 ? 'amx_bf16' : 'avx512_bf16'}); dense networks gain, depthwise ones lose`;
  } else if (!bf16.available && !cuda.available) {
    bf16.reason = `the CPU has neither amx_bf16 nor avx512_bf16, and no GPU: ${noGpu}`;
  }

  const cudnn = onGpu('cuDNN benchmark', 0, '', `cuDNN ${cuda.cudnn ?? ''}`.trim());
  if (cudnn.available && !cuda.cudnn) {
    cudnn.available = false;
    cudnn.reason = 'cuDNN was not found beside libtorch';
  }

  return [
    onGpu('AMP fp16', 5.3, 'needs compute capability 5.3', 'with loss scaling'),
    bf16,
    cudnn,
    onGpu('TF32', 8, 'needs compute capability 8.0 (Ampere)', 'for fp32 convolutions and matrix products'),
    {
      name: 'channels-last',
      available: info.mkldnn || cuda.available,
      reason:
        info.mkldnn || cuda.available
          ? 'oneDNN or cuDNN kernels'
          : 'this libtorch has neither oneDNN nor CUDA',
    },
    onGpu('CUDA graphs', 0, '', 'steps replayed without launch cost'),
    onGpu('pinned memory', 0, '', 'copies to the GPU overlap with computing'),
    int8(info),
  ];
}

/** onednn::qconv on x86: without VNNI, 8-bit products saturate 16-bit sums, so activations keep to 7 bits. */
function int8(info: SystemInfo): Optimisation {
  const name = 'int8';
  const cpu = info.cpu_features;
  if (!info.mkldnn) return { name, available: false, reason: 'this libtorch has no oneDNN' };
  if (cpu.amx_int8) return { name, available: true, reason: 'amx_int8' };
  if (cpu.avx512_vnni) return { name, available: true, reason: 'avx512_vnni' };
  if (cpu.avx2)
    return { name, available: true, reason: 'no VNNI: with a reduced range (0 to 127), little faster' };
  return { name, available: false, reason: 'the CPU has neither AMX, VNNI nor AVX2' };
}
