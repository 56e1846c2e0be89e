/** The devices and the precision of a run, chosen and reported once. */
import type { Config } from '../config/schema.js';
import { loadAddon } from '../native.js';
import {
  chooseAmp,
  describeDevice,
  describeSettings,
  resolveDevice,
  type Amp,
  type ResolvedDevice,
} from './devices.js';
import type { Report } from './events.js';

export interface RunDevices {
  train: ResolvedDevice;
  eval: ResolvedDevice;
  /** Of training; evaluation is in float32, so that its figures hold on any host. */
  amp: Amp;
}

/**
 * @param localRank of this process on its machine: which GPU it takes where none is named.
 * @throws DeviceError if a device that was asked for is not there, or cannot do the precision.
 */
export function chooseDevices(
  config: Pick<Config, 'device' | 'train'>,
  localRank = 0,
): RunDevices & { reason: string } {
  const info = loadAddon().systemInfo();
  const train = resolveDevice(config.device.train, info, localRank);
  const { amp, reason }: { amp: Amp; reason: string } = config.train.precision
    ? { amp: 'off', reason: 'but for what train.precision says' }
    : config.train.deterministic && config.train.amp === 'auto' && train.type === 'cpu'
      ? { amp: 'off', reason: 'amp auto: deterministic, so that nothing is decided by timing' }
      : chooseAmp(config.train.amp, train, info);
  return { train, eval: resolveDevice(config.device.eval, info, localRank), amp, reason };
}

/** `chooseDevices`, with a line for each phase and one for the settings. */
export function chooseAndReportDevices(
  config: Pick<Config, 'device' | 'train'>,
  evaluates: boolean,
  report: Report,
  localRank = 0,
): RunDevices {
  const info = loadAddon().systemInfo();
  const chosen = chooseDevices(config, localRank);
  report({
    type: 'device',
    phase: 'train',
    device: chosen.train.device,
    deviceName: chosen.train.name,
    amp: chosen.amp,
    message: describeDevice('train', chosen.train, info, chosen),
  });
  if (evaluates) {
    report({
      type: 'device',
      phase: 'eval',
      device: chosen.eval.device,
      deviceName: chosen.eval.name,
      amp: 'off',
      message: describeDevice('eval', chosen.eval, info),
    });
  }
  report({ type: 'info', message: describeSettings(config.train, chosen.train, info) });
  return chosen;
}
