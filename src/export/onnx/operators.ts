/** Every operator of libtorch that has a counterpart in ONNX, by name with overload. */
import type { ConverterTable } from './conversion.js';
import { activationConverters } from './convert/activation.js';
import { adaptivePoolConverters } from './convert/adaptive_pool.js';
import { attentionConverters } from './convert/attention.js';
import { elementwiseConverters } from './convert/elementwise.js';
import { linearConverters } from './convert/linear.js';
import { normConverters } from './convert/norm.js';
import { pieceConverters } from './convert/pieces.js';
import { poolConverters } from './convert/pool.js';
import { reduceConverters } from './convert/reduce.js';
import { resampleConverters } from './convert/resample.js';
import { shapeConverters } from './convert/shape.js';

export const converters: ConverterTable = {
  ...activationConverters,
  ...adaptivePoolConverters,
  ...attentionConverters,
  ...elementwiseConverters,
  ...linearConverters,
  ...normConverters,
  ...pieceConverters,
  ...poolConverters,
  ...reduceConverters,
  ...resampleConverters,
  ...shapeConverters,
};
