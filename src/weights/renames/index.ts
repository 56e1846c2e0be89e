/** All translations of names, in the order they are tried. */
import { backboneMap } from './backbone.js';
import { densenetMap } from './densenet.js';
import { mobilenetv1Map } from './mobilenetv1.js';
import type { RenameMap } from './rename_map.js';
import { timmConvnextMap } from './timm_convnext.js';
import {
  timmEfficientnetMap,
  timmMnasnetMap,
  timmMobilenetV2Map,
  timmMobilenetV3Map,
} from './timm_mobile.js';
import { timmRegnetMap } from './timm_regnet.js';
import { timmSwinMap } from './timm_swin.js';
import { timmVggMap } from './timm_vgg.js';
import { timmVitMap } from './timm_vit.js';
import { torchvisionVitMap } from './torchvision_vit.js';

export type { RenameMap } from './rename_map.js';

export const renameMaps: readonly RenameMap[] = [
  densenetMap,
  mobilenetv1Map,
  torchvisionVitMap,
  timmConvnextMap,
  timmVitMap,
  timmSwinMap,
  timmEfficientnetMap,
  timmMobilenetV2Map,
  timmMobilenetV3Map,
  timmMnasnetMap,
  timmRegnetMap,
  timmVggMap,
  backboneMap,
];
