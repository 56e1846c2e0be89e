/** The doctor's report for people: aligned lines, the problems with their remedies last. */
import type { DoctorReport } from './report.js';

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
const yes = (value: boolean | null): string => (value === null ? 'unknown' : value ? 'yes' : 'no');

export function formatReport(report: DoctorReport): string {
  const lines: string[] = [];
  const section = (title: string): void => void lines.push(`${lines.length ? '\n' : ''}${title}`);
  const row = (name: string, value: string): void => void lines.push(`  ${name.padEnd(18)} ${value}`);

  section('System');
  row('Fornax', report.fornax);
  row('Node.js', `${report.node.version} (${report.node.path})`);
  row(
    'System',
    `${report.system.os}, ${report.system.arch}, ${report.system.libc}, kernel ${report.system.kernel}`,
  );

  section('Native core');
  const { addon, libtorch, cpu } = report;
  row(
    'Addon',
    addon.ok ? `${addon.path}, ${addon.variant === 'cuda' ? 'CUDA' : 'CPU'} variant` : 'does not load',
  );
  if (addon.ok) row('', `built for libtorch ${addon.torch}, loaded in ${addon.load_seconds} s`);
  if (addon.current === false) row('', 'older than the native sources');
  row('libtorch', libtorch ? `${libtorch.version} (${libtorch.path})` : 'none in use');
  if (libtorch) row('', `from ${libtorch.source}${libtorch.cuda ? `, built for CUDA ${libtorch.cuda}` : ''}`);

  section('CPU');
  const quota = cpu.quota === null ? '' : `, limited to ${cpu.quota} CPUs' worth of time`;
  row('Model', `${cpu.model}, ${cpu.cores} logical cores${quota}, ${gib(cpu.memory)}`);
  if (cpu.features) {
    const has = Object.entries(cpu.features);
    const names = (wanted: boolean) =>
      has
        .filter(([, value]) => value === wanted)
        .map(([name]) => name)
        .join(' ');
    row('Kernels', cpu.capability ?? 'unknown');
    row('Instruction sets', `${names(true) || 'none'}${names(false) ? `   (not: ${names(false)})` : ''}`);
    row('Threads', `${cpu.threads} within an operator, ${cpu.interop_threads} between`);
    row('Libraries', `oneDNN ${yes(cpu.mkldnn)}, MKL ${yes(cpu.mkl)}, OpenMP ${yes(cpu.openmp)}`);
    row('Allocator', cpu.allocator ?? 'unknown');
  }

  section('CUDA');
  const { cuda } = report;
  if (!cuda) row('GPU', report.nvidia_driver ? 'an NVIDIA driver is installed' : 'no NVIDIA driver');
  else {
    row('GPU', cuda.available ? `${cuda.devices.length} usable` : `none usable: ${cuda.reason}`);
    if (cuda.driver) row('Driver', cuda.driver);
    if (cuda.runtime) row('Runtime', `CUDA ${cuda.runtime}${cuda.cudnn ? `, cuDNN ${cuda.cudnn}` : ''}`);
    cuda.devices.forEach((gpu, index) => {
      row(
        `cuda:${index}`,
        `${gpu.name}, ${gib(gpu.memory)} (${gib(gpu.free)} free), compute capability ${gpu.capability}, ` +
          `${gpu.multiprocessors} multiprocessors`,
      );
    });
  }

  if (report.optimisations.length > 0) {
    section('Optimisations');
    for (const { name, available, reason } of report.optimisations) {
      row(name, `${available ? 'available' : 'unavailable'}: ${reason}`);
    }
  }

  section('Building from source');
  const { tools, cache } = report;
  row(
    'Tools',
    `CMake ${tools.cmake ?? 'missing'}, compiler ${tools.compiler ?? 'missing'}, ninja ${yes(tools.ninja)}`,
  );
  row('Python', tools.python ?? 'missing (needed only to fetch libtorch)');
  row(
    'Cache',
    `${cache.path}${cache.free === null ? '' : `, ${gib(cache.free)} free`}${cache.writable ? '' : ', read-only'}`,
  );

  lines.push('');
  for (const problem of report.problems) {
    lines.push(`${problem.severity === 'required' ? 'PROBLEM' : 'Advice'}: ${problem.what}`);
    if (problem.fix) lines.push(`  fix: ${problem.fix}`);
  }
  lines.push(
    report.ok ? 'Fornax works here.' : 'Fornax does not work here until the problems above are solved.',
  );
  return lines.join('\n') + '\n';
}
