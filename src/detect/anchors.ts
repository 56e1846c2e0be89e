/** The anchors ("priors") of the face detectors. */
import type { DetectionInfo } from '../model/info.js';

/** Deng et al. 2019, arXiv:1905.00641, as implemented: two square anchors a place, 16,800 for 640² pixels. */
export const faceAnchors: DetectionInfo = {
  min_sizes: [
    [16, 32],
    [64, 128],
    [256, 512],
  ],
  steps: [8, 16, 32],
  variances: [0.1, 0.2],
};
