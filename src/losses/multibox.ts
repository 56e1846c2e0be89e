/**
 * The loss of single-shot detectors (Liu et al. 2016, arXiv:1512.02325, section 2.2) with landmarks (Deng et al.
 * 2019, arXiv:1905.00641, equation 1), as biubug6/Pytorch_Retinaface implements it.
 */
import { faceAnchors } from '../detect/anchors.js';
import { ArgumentError } from '../errors.js';
import type { Graph } from '../graph/format.js';
import { trace } from '../graph/trace.js';
import type { DetectionInfo } from '../model/info.js';
import { call, functional as F, Module, type Tensor, where } from '../nn/index.js';
import { traceLoss } from './trace_loss.js';

export interface MultiBoxLossOptions {
  /** Height and width of the training images, pixels. Default [640, 640]. */
  imageSize?: readonly [number, number];
  /** Default: the anchors of the face detectors; those of another model stand in its `info.detection`. */
  detection?: DetectionInfo;
  /** Overlap (IoU) from which an anchor belongs to a face, 0…1. Default 0.35. */
  threshold?: number;
  /** So many background anchors count for each positive one, those with the largest loss. Default 7. */
  negativesPerPositive?: number;
  /** Factors on the parts. Default: 2 on boxes, 1 on classes and landmarks. */
  weights?: { loc?: number; conf?: number; landm?: number };
  /** Default 'smooth_l1'; 'wing': Feng et al. 2018 (arXiv:1711.06753). */
  landmarks?: 'smooth_l1' | 'wing';
  /** Of the wing loss. Default 10 and 2, in units of the landmarks' offsets. */
  wing?: { width?: number; curvature?: number };
}

/** The three parts of the loss, each a scalar. */
interface Parts extends Record<string, Tensor> {
  /** Smooth L1 of the boxes' offsets: sum over positive anchors / number of them. */
  loss_l: Tensor;
  /** Cross entropy: sum over positive anchors and chosen negatives / number of positive ones. */
  loss_c: Tensor;
  /** Sum over positive anchors whose face has landmarks / number of them (wing: mean over the 10 values). */
  loss_landm: Tensor;
}

/** Names of the loss's inputs: the detector's outputs, then the fields of the batch. */
const inputs = [
  'loc',
  'conf',
  'landm',
  'face_boxes',
  'face_landmarks',
  'face_labels',
  'face_offsets',
] as const;

function sumWhere(condition: Tensor, values: Tensor): Tensor {
  return where(condition, values, 0).sum();
}

function atLeastOne(count: Tensor): Tensor {
  return count.clamp({ min: 1 }).to('float32');
}

/** The place of each element in its row, the largest value being the 0th. */
function rankOf(values: Tensor): Tensor {
  const [, order] = call('aten::sort.stable', [values, true, 1, true], { outputs: 2 }) as [Tensor, Tensor];
  const [, rank] = call('aten::sort.stable', [order, true, 1, false], { outputs: 2 }) as [Tensor, Tensor];
  return rank;
}

class MultiBoxParts extends Module {
  readonly options: MultiBoxLossOptions;

  /** @throws ArgumentError for a threshold outside 0…1, or sizes and numbers below 0 */
  constructor(options: MultiBoxLossOptions = {}) {
    super();
    const { threshold = 0.35, negativesPerPositive = 7, imageSize = [640, 640] } = options;
    if (!(threshold >= 0 && threshold <= 1)) {
      throw new ArgumentError(
        `the threshold of the overlap must be between 0 and 1, not ${String(threshold)}`,
      );
    }
    if (!Number.isSafeInteger(negativesPerPositive) || negativesPerPositive < 0) {
      throw new ArgumentError('negativesPerPositive must be an integer from 0 on');
    }
    if (!imageSize.every((side) => Number.isSafeInteger(side) && side > 0)) {
      throw new ArgumentError('imageSize is height and width in pixels');
    }
    this.options = options;
  }

  /**
   * @param loc [N, P, 4], `conf` [N, P, 2], `landm` [N, P, 10]: the detector's outputs.
   * @param boxes [F, 4]: x1, y1, x2, y2 of the batch's faces, as shares of width and height. A face
   *   without area matches nothing.
   * @param points [F, 10]: x, y of five landmarks, as shares.
   * @param labels [F]: 1; −1 for a face without landmarks.
   * @param offsets [N + 1]: the faces of image i are the rows from offsets[i] to offsets[i + 1].
   */
  forward(
    loc: Tensor,
    conf: Tensor,
    landm: Tensor,
    boxes: Tensor,
    points: Tensor,
    labels: Tensor,
    offsets: Tensor,
  ): Parts {
    const {
      imageSize: [height, width] = [640, 640],
      detection: { min_sizes: sizes, steps, variances } = faceAnchors,
      threshold = 0.35,
      negativesPerPositive = 7,
    } = this.options;
    const priors = call('fornax::prior_boxes', [loc, height, width, sizes.flat(), steps]);
    const [locTarget, confTarget, landmTarget] = call(
      'fornax::match_priors',
      [loc, priors, boxes, points, labels, offsets, threshold, variances],
      { outputs: 3 },
    ) as [Tensor, Tensor, Tensor];
    const positive = confTarget.ne(0);
    const labelled = confTarget.gt(0);
    const positives = atLeastOne(positive.sum());

    // Background that is told apart worst, so many in each image.
    const logits = conf.to('float32');
    const error = logits.logSoftmax(-1).gather(2, positive.to('int64').unsqueeze(2)).squeeze(2).neg();
    const wanted = positive.sum(1, { keepdim: true }).mul(negativesPerPositive);
    const limited = call('aten::clamp', [wanted, null, loc.size(1).sub(1)]);
    const negative = rankOf(error.detach().maskedFill(positive, 0)).lt(limited);
    const counted = call('aten::logical_or', [positive, negative]);

    const boxError = F.smoothL1Loss(
      where(positive.unsqueeze(2), loc.to('float32'), 0),
      where(positive.unsqueeze(2), locTarget, 0),
      1,
      'sum',
    );
    return {
      loss_l: boxError.div(positives),
      loss_c: sumWhere(counted, error).div(positives),
      loss_landm: this.landmarkLoss(landm.to('float32'), landmTarget, labelled),
    };
  }

  private landmarkLoss(landm: Tensor, target: Tensor, labelled: Tensor): Tensor {
    const { landmarks = 'smooth_l1', wing = {} } = this.options;
    const count = atLeastOne(labelled.sum());
    const [x, y] = [landm, target].map((t) => where(labelled.unsqueeze(2), t, 0)) as [Tensor, Tensor];
    if (landmarks === 'smooth_l1') return F.smoothL1Loss(x, y, 1, 'sum').div(count);
    const { width = 10, curvature = 2 } = wing;
    const error = x.sub(y).abs();
    const near = error.div(curvature).add(1).log().mul(width);
    const far = error.sub(width - width * Math.log(1 + width / curvature));
    return where(error.lt(width), near, far).sum().div(count.mul(10));
  }
}

export class MultiBoxLoss extends Module {
  readonly parts: MultiBoxParts;
  readonly weights: { loc: number; conf: number; landm: number };

  constructor(options: MultiBoxLossOptions = {}) {
    super();
    this.parts = new MultiBoxParts(options);
    this.weights = { loc: 2, conf: 1, landm: 1, ...options.weights };
  }

  /** The weighted sum; the inputs are those of the parts. */
  forward(...tensors: Parameters<MultiBoxParts['forward']>): Tensor {
    const { loss_l: loc, loss_c: conf, loss_landm: landm } = this.parts.forward(...tensors);
    return loc.mul(this.weights.loc).add(conf.mul(this.weights.conf)).add(landm.mul(this.weights.landm));
  }
}

/**
 * The graph of the MultiBox loss over a face detector's outputs `loc`, `conf` and `landm` and the batch's fields
 * `face_boxes`, `face_landmarks`, `face_labels` and `face_offsets`. `image` must be the first field of the batch.
 * Targets are matched on the CPU, so that on a GPU every step waits for their copies.
 */
export function multiBox(options: MultiBoxLossOptions = {}): Graph {
  return traceLoss(new MultiBoxLoss(options), inputs);
}

/** The three parts (`loss_l`, `loss_c`, `loss_landm`) without weights, for reports. Its inputs are those of multiBox. */
export function multiBoxParts(options: MultiBoxLossOptions = {}): Graph {
  return trace(new MultiBoxParts(options), { inputs: inputs.map((name) => ({ name, shape: null })) });
}
