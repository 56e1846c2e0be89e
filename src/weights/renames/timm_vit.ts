/** Vision transformers of timm (and DeiT) to torchvision's. Heads between the body and the classifier have no place. */
import { byRules, type RenameMap } from './rename_map.js';

const LAYER: Record<string, string> = {
  ...{ norm1: 'ln_1.', norm2: 'ln_2.', 'attn.qkv': 'self_attention.in_proj_' },
  ...{ 'attn.proj': 'self_attention.out_proj.', 'mlp.fc1': 'mlp.0.', 'mlp.fc2': 'mlp.3.' },
};

export const timmVitMap: RenameMap = {
  name: "timm's vision transformer",
  renamer: () =>
    byRules([
      [/^cls_token$/, 'class_token'],
      [/^pos_embed$/, 'encoder.pos_embedding'],
      [/^patch_embed\.proj\./, 'conv_proj.'],
      [
        /^blocks\.(\d+)\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\./,
        (block, layer) => `encoder.layers.encoder_layer_${block}.${LAYER[layer]!}`,
      ],
      [/^norm\./, 'encoder.ln.'],
      [/^head\./, 'heads.head.'],
    ]),
};
