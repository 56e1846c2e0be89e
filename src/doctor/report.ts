/** What `fornax doctor` finds, as plain data: printed for people, or as JSON. */
import type { SystemInfo } from '../native/contract.js';

export interface Problem {
  /** `required`: Fornax does not work without it (exit code 1). `advice`: it works, but could be better. */
  severity: 'required' | 'advice';
  what: string;
  fix: string | null;
}

/** One way to be faster: whether this machine and this build have it, and why or why not. */
export interface Optimisation {
  name: string;
  available: boolean;
  reason: string;
}

export interface DoctorReport {
  ok: boolean;
  fornax: string;
  node: { version: string; path: string; supported: boolean };
  system: { platform: string; arch: string; libc: string; os: string; kernel: string };
  addon: {
    ok: boolean;
    path: string | null;
    variant: 'cpu' | 'cuda' | null;
    /** Version of libtorch it was built against. */
    torch: string | null;
    builder: string | null;
    /** Whether it was built from the present sources; null where that does not apply. */
    current: boolean | null;
    load_seconds: number | null;
  };
  libtorch: { version: string; path: string; source: string; cuda: string | null } | null;
  cpu: {
    model: string;
    cores: number;
    /** CPUs' worth of time that a container allows; null without a limit. */
    quota: number | null;
    memory: number;
    /** From here on as ATen and the addon see it; null if the addon does not load. */
    capability: string | null;
    features: SystemInfo['cpu_features'] | null;
    threads: number | null;
    interop_threads: number | null;
    mkldnn: boolean | null;
    mkl: boolean | null;
    openmp: boolean | null;
    allocator: string | null;
  };
  cuda: SystemInfo['cuda'] | null;
  /** Whether the machine has an NVIDIA driver, whatever the addon can do with it. */
  nvidia_driver: boolean;
  optimisations: Optimisation[];
  /** Tools for building from source; null where one is missing. */
  tools: { cmake: string | null; compiler: string | null; ninja: boolean; python: string | null };
  cache: { path: string; free: number | null; writable: boolean };
  problems: Problem[];
}
