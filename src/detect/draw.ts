/** Faces drawn into a copy of an image. */
import sharp from 'sharp';

import { DataError } from '../errors.js';
import { writeFileAtomic } from '../io/atomic.js';
import type { FaceDetection } from './decode.js';

const boxColour = '#ff2d20';
/** Of the five landmarks, in order. */
const pointColours = ['#ff2d20', '#ffe100', '#ff4ff8', '#21e06b', '#2b8cff'];

/** The overlay as SVG: a frame for each face and a dot for each landmark, as thick as the image's size asks for. */
export function faceOverlay(faces: readonly FaceDetection[], width: number, height: number): string {
  const thickness = Math.max(2, Math.round(Math.max(width, height) / 500));
  const fixed = (value: number): string => value.toFixed(2);
  const shapes = faces.flatMap(({ box: [x1, y1, x2, y2], landmarks }) => [
    `<rect x="${fixed(x1)}" y="${fixed(y1)}" width="${fixed(Math.max(0, x2 - x1))}" height="${fixed(Math.max(0, y2 - y1))}" fill="none" stroke="${boxColour}" stroke-width="${thickness}"/>`,
    ...landmarks.map(
      ([x, y], i) =>
        `<circle cx="${fixed(x)}" cy="${fixed(y)}" r="${thickness}" fill="${pointColours[i % pointColours.length]}"/>`,
    ),
  ]);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${shapes.join('')}</svg>`;
}

/**
 * Writes a copy of an image with the faces' boxes and landmarks drawn in. The copy stands upright (the original's
 * EXIF orientation is applied), has the original's format and size, and none of its metadata but the colour
 * profile. The original is only read.
 *
 * @param image path of a JPEG, PNG or WebP file.
 * @param output path of the copy; its folder is made. Written atomically; a file of this name is replaced.
 * @throws DataError if the image cannot be read.
 */
export async function drawFaces(
  image: string,
  faces: readonly FaceDetection[],
  output: string,
): Promise<void> {
  let drawn: Uint8Array;
  try {
    const source = sharp(image, { failOn: 'error' });
    const { autoOrient, format } = await source.metadata();
    const { width, height } = autoOrient;
    const copy = source
      .autoOrient()
      .keepIccProfile()
      .composite([{ input: Buffer.from(faceOverlay(faces, width, height)) }]);
    if (format === 'jpeg') copy.jpeg({ quality: 92, chromaSubsampling: '4:4:4' });
    if (format === 'webp') copy.webp({ quality: 92, smartSubsample: true });
    drawn = await copy.toBuffer();
  } catch (error) {
    throw new DataError({
      what: `cannot draw into a copy: ${(error as Error).message}`,
      where: image,
      cause: error,
    });
  }
  await writeFileAtomic(output, drawn);
}
