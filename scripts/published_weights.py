"""Writes src/models/published_table.ts and src/models/labels.ts from torchvision's metadata.

    python scripts/published_weights.py src/models

Only needed when torchvision publishes new weights. Needs torchvision.
"""

import re
import sys
from pathlib import Path

from torchvision.models import get_model_weights, list_models
from torchvision.models._meta import _IMAGENET_CATEGORIES, _VOC_CATEGORIES

BASE = "https://download.pytorch.org/models/"
SKIPPED = re.compile(r"s3d|swin_v2|swin3d|maxvit|mvit|vit_h|_18$|r3d|quantized")


def rows():
    for name in list_models():
        if SKIPPED.search(name):
            continue
        weights = get_model_weights(name)
        for entry in weights:
            transform = entry.transforms()
            metrics = next(iter(entry.meta["_metrics"].values()))
            # Detectors and features have no classes to preprocess for.
            if not hasattr(transform, "resize_size") or metrics.get("acc@1") != metrics.get("acc@1"):
                continue
            crop = getattr(transform, "crop_size", [0])[0]
            yield [
                name,
                entry.name.lower() + ("*" if entry is weights.DEFAULT else ""),
                entry.url[len(BASE):],
                f"{entry.meta['_file_size']:.1f}",
                f"{metrics.get('acc@1', metrics.get('miou')):.3f}",
                str(transform.resize_size[0]),
                str(crop),
                "half" if transform.mean[0] == 0.5 else "imagenet",
                transform.interpolation.value,
            ]


def wrapped(names):
    lines, line = [], ""
    for name in names:
        if line and len(line) + len(name) > 105:
            lines.append(line.rstrip())
            line = ""
        line += name + "; "
    return "\n".join(lines + [line.rstrip("; ")])


def main(folder):
    listed = list(rows())
    widths = [max(len(row[i]) for row in listed) for i in range(9)]
    table = "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in listed)
    (folder / "published_table.ts").write_text(
        f"""/** Weights that torchvision publishes. Made by scripts/published_weights.py: do not edit. */

export const TORCHVISION_URL = '{BASE}';

/**
 * Architecture, name (`*`: the default), file, MiB, top-1 accuracy (mean IoU of segmenters) in percent, shorter
 * side, crop (0: none), normalisation, resize filter.
 */
export const TORCHVISION_WEIGHTS = `
{table}
`;
"""
    )
    (folder / "labels.ts").write_text(
        f"""/** Class names of published weights, by index. Made by scripts/published_weights.py: do not edit. */

/** Names are separated by semicolons. */
const list = (text: string): readonly string[] => text.trim().split(/;\\s+/);

/** ImageNet-1K. */
export const IMAGENET_LABELS = list(`
{wrapped(_IMAGENET_CATEGORIES)}
`);

/** Pascal VOC, with which torchvision's segmenters label COCO. */
export const VOC_LABELS = list(`
{wrapped(_VOC_CATEGORIES)}
`);
"""
    )


main(Path(sys.argv[1]))
