/**
 * One image of the generated sample set: a shape of random colour, size, place and rotation on a background with
 * a gradient, stripes, lines and noise. Neither the colour nor any one pixel tells the class, so that a linear
 * classifier on pixels does little better than guessing, while edges and corners tell it plainly.
 */
import { generator } from './random.js';

/** Classes, sorted as their folders are. */
export const SHAPES = ['circle', 'cross', 'ring', 'square', 'star', 'triangle'] as const;
export type Shape = (typeof SHAPES)[number];

export interface Drawing {
  /** uint8 [size, size, 3]. */
  pixels: Uint8Array;
  /** uint8 [size, size]: 0 background, class index + 1 on the shape. */
  mask: Uint8Array;
  /** Bounds of the shape in pixels: left, top, right, bottom (right and bottom exclusive). */
  box: [number, number, number, number];
}

type Colour = [number, number, number];

/** Signed distance to the shape of radius r around the origin, roughly in pixels; negative inside. */
const DISTANCE: Record<Shape, (x: number, y: number, r: number) => number> = {
  circle: (x, y, r) => Math.hypot(x, y) - 0.9 * r,
  cross: (x, y, r) => {
    const [a, b] = [Math.abs(x), Math.abs(y)];
    return Math.min(Math.max(a - r, b - 0.3 * r), Math.max(a - 0.3 * r, b - r));
  },
  ring: (x, y, r) => Math.abs(Math.hypot(x, y) - 0.72 * r) - 0.23 * r,
  square: (x, y, r) => Math.max(Math.abs(x), Math.abs(y)) - 0.78 * r,
  star: (x, y, r) => {
    // Folded into one of ten equal sectors, whose outline is one line from the tip to the inner corner.
    const sector = Math.PI / 5;
    const angle = Math.abs(((Math.atan2(y, x) + 11 * sector) % (2 * sector)) - sector);
    const radius = Math.hypot(x, y);
    const [px, py] = [radius * Math.cos(angle) - r, radius * Math.sin(angle)];
    const inner = 0.42 * r;
    const [ex, ey] = [inner * Math.cos(sector) - r, inner * Math.sin(sector)];
    return (ey * px - ex * py) / Math.hypot(ex, ey);
  },
  triangle: (x, y, r) => {
    const edge = 0.866 * Math.abs(x) + 0.5 * y;
    return Math.max(edge, -y) - 0.5 * r;
  },
};

/**
 * Draws one image, the same for the same arguments.
 *
 * @param label index into SHAPES.
 * @param size height and width in pixels, at least 16.
 * @param keys with the seed, what the image depends on (its split and number).
 */
export function drawShape(label: number, size: number, seed: number, ...keys: number[]): Drawing {
  const random = generator(seed, label, ...keys);
  const between = (low: number, high: number): number => low + (high - low) * random();
  const colour = (): Colour => [between(20, 235), between(20, 235), between(20, 235)];
  const backs: [Colour, Colour] = [colour(), colour()];
  const front = contrasting(backs, colour);
  const pixels = new Float32Array(size * size * 3);
  paintBackground(pixels, size, backs, between);
  for (let lines = Math.floor(between(0, 3)); lines > 0; lines--) paintLine(pixels, size, colour(), between);

  const r = between(0.26, 0.42) * size;
  const [cx, cy] = [between(r, size - r), between(r, size - r)];
  const turn = between(-0.5, 0.5);
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const distance = DISTANCE[SHAPES[label]!];
  const shade = between(-0.25, 0.25);
  const mask = new Uint8Array(size * size);
  const box: Drawing['box'] = [size, size, 0, 0];
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [dx, dy] = [x + 0.5 - cx, y + 0.5 - cy];
      const [lx, ly] = [cos * dx + sin * dy, cos * dy - sin * dx];
      const cover = Math.min(1, Math.max(0, 0.5 - distance(lx, ly, r)));
      if (cover === 0) continue;
      const p = y * size + x;
      const light = 1 + (shade * lx) / r;
      for (let c = 0; c < 3; c++) pixels[3 * p + c] = mixed(pixels[3 * p + c]!, front[c]! * light, cover);
      if (cover < 0.5) continue;
      mask[p] = label + 1;
      box[0] = Math.min(box[0], x);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], x + 1);
      box[3] = Math.max(box[3], y + 1);
    }
  }
  return { pixels: withNoise(pixels, between(2, 8), random), mask, box };
}

/** A colour that differs from both colours of the background, and from their middle, enough to be seen. */
function contrasting(backs: [Colour, Colour], draw: () => Colour): Colour {
  const middle = backs[0].map((value, c) => (value + backs[1][c]!) / 2) as Colour;
  const apart = (a: Colour, b: Colour): number => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
  let best = draw();
  let most = 0;
  for (let tries = 0; tries < 20; tries++) {
    const candidate = draw();
    const least = Math.min(...[...backs, middle].map((back) => apart(candidate, back)));
    if (least > 130) return candidate;
    if (least > most) [best, most] = [candidate, least];
  }
  return best;
}

function paintBackground(
  pixels: Float32Array,
  size: number,
  [from, to]: [Colour, Colour],
  between: (low: number, high: number) => number,
): void {
  const [gradient, stripes] = [between(0, 2 * Math.PI), between(0, Math.PI)];
  const [amplitude, wave, phase] = [between(0, 10), between(3, 14), between(0, 2 * Math.PI)];
  const frequency = (2 * Math.PI) / wave;
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const along =
        ((x / size - 0.5) * Math.cos(gradient) + (y / size - 0.5) * Math.sin(gradient)) / 1.42 + 0.5;
      const stripe =
        amplitude * Math.sin(frequency * (x * Math.cos(stripes) + y * Math.sin(stripes)) + phase);
      for (let c = 0; c < 3; c++, i++) pixels[i] = mixed(from[c]!, to[c]!, along) + stripe;
    }
  }
}

/** A thin line across the image, as a distraction. */
function paintLine(
  pixels: Float32Array,
  size: number,
  colour: Colour,
  between: (low: number, high: number) => number,
): void {
  const angle = between(0, Math.PI);
  const [nx, ny] = [Math.cos(angle), Math.sin(angle)];
  const offset = nx * between(0, size) + ny * between(0, size);
  const half = between(0.5, 1);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const cover = Math.min(1, Math.max(0, 0.5 + half - Math.abs(nx * x + ny * y - offset)));
      if (cover === 0) continue;
      const i = 3 * (y * size + x);
      for (let c = 0; c < 3; c++) pixels[i + c] = mixed(pixels[i + c]!, colour[c]!, 0.7 * cover);
    }
  }
}

function withNoise(pixels: Float32Array, sigma: number, random: () => number): Uint8Array {
  const out = new Uint8Array(pixels.length);
  for (let i = 0; i < out.length; i++) {
    // Three uniforms: near enough to a normal distribution of deviation sigma.
    const noise = sigma * 2 * (random() + random() + random() - 1.5);
    out[i] = Math.min(255, Math.max(0, Math.round(pixels[i]! + noise)));
  }
  return out;
}

function mixed(a: number, b: number, share: number): number {
  return a + (b - a) * share;
}
