"""The networks of the training-step benchmarks, the same as Fornax's: the counts of parameters are compared."""

import torch
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet18(classes):
    """torchvision's resnet18."""
    blocks = []
    for inputs, outputs, stride in [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]:
        blocks += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, classes),
    )


def tiny_cnn(classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


def double_convolution(inputs, outputs):
    layers = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Fornax's unet with its default options, for sizes that its levels halve evenly."""

    def __init__(self, classes, widths=(16, 32, 64, 128)):
        super().__init__()
        lowest = 2 * widths[-1]
        self.encoder = nn.ModuleList(double_convolution(a, b) for a, b in zip((3, *widths), widths))
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = double_convolution(widths[-1], lowest)
        upwards = widths[::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in zip((lowest, *upwards), upwards)
        )
        self.decoder = nn.ModuleList(double_convolution(2 * width, width) for width in upwards)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x):
        skipped = []
        for level in self.encoder:
            x = level(x)
            skipped.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for up, level in zip(self.up, self.decoder):
            x = level(torch.cat([skipped.pop(), up(x)], 1))
        return self.head(x)


def make_model(case):
    name, classes = case["model"], case["classes"]
    if name == "head":
        return nn.Sequential(nn.Linear(case["shape"][1], 256), nn.ReLU(inplace=True), nn.Linear(256, classes))
    own = {"resnet18": resnet18, "tiny_cnn": tiny_cnn, "unet": UNet}
    if name in own:
        return own[name](classes)
    import torchvision

    return torchvision.models.get_model(name, weights=None, num_classes=classes)


def make_optimizer(case, model, fused):
    if case["optimizer"] == "sgd":
        return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=fused)
    return torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=1e-4, fused=fused)
