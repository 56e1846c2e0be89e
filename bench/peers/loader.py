"""torchvision's ImageFolder + DataLoader, timed on request: the peer of bench/loader.ts.

    loader.py FOLDER BATCH WORKERS REPEAT SIZE

Reads commands from standard input, one a line, and answers each with one line of JSON:
  first   makes the data set and the loader (the folder is listed, the workers start) and runs one epoch
  later   runs one more epoch over REPEAT times the images, with the same workers
"""

import json
import sys
import time

import torch
import torchvision
from torch.utils.data import ConcatDataset, DataLoader
from torchvision import transforms


def run(loader):
    images = 0
    checksum = 0.0
    for image, label in loader:
        images += image.shape[0]
        checksum += float(image[0, 0, 0, 0])
    return images, checksum


def main():
    folder, batch, workers, repeat, size = sys.argv[1], *map(int, sys.argv[2:6])
    # A batch in shared memory; the main process only receives, as the consumer of Fornax's loader does.
    torch.set_num_threads(1)
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    def make(times):
        images = torchvision.datasets.ImageFolder(folder, transform)
        return DataLoader(
            ConcatDataset([images] * times),
            batch_size=batch,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    later = None
    print(json.dumps({"torch": torch.__version__, "torchvision": torchvision.__version__}), flush=True)
    for line in sys.stdin:
        if line.strip() == "first":
            start = time.perf_counter()
            images, _ = run(make(1))
        else:
            if later is None:
                later = make(repeat)
                run(later)  # starts the workers and warms them up, untimed
            start = time.perf_counter()
            images, _ = run(later)
        print(json.dumps({"images": images, "seconds": time.perf_counter() - start}), flush=True)


main()
