"""PyTorch eager's side of the training-step benchmark: step.py CASE (a StepCase of bench/step_case.ts as JSON).

Answers each line of JSON on standard input with one line of JSON:
  {"run": steps}    milliseconds of each step
  {"memory": true}  peak resident bytes
  {"floor": true}   milliseconds that the convolutions and linear layers of one step take by themselves
"""

import json
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

BATCHES = 8


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


def make_model(case):
    if case["model"] == "head":
        inputs = case["shape"][1]
        return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(inplace=True), nn.Linear(256, case["classes"]))
    return {"resnet18": resnet18, "tiny_cnn": tiny_cnn}[case["model"]](case["classes"])


def make_optimizer(case, model):
    fused = True if case["peerOptimizer"] == "fused" else None
    if case["optimizer"] == "sgd":
        return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, fused=fused)
    return torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=1e-4, fused=fused)


def floor(case, model, batch, repeat=7):
    """Forward and backward of every convolution and linear layer alone, each repeated; the sum of the medians."""
    calls = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: calls.append((module, inputs[0].detach(), output.detach())))
        for module in model.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    total = 0.0
    for i, (module, x, y) in enumerate(calls):
        gradient = torch.randn_like(y)
        # The first layer's input needs no gradient.
        x = x.clone(memory_format=torch.preserve_format).requires_grad_(i > 0)
        wanted = [t for t in (x, module.weight, module.bias) if t is not None and t.requires_grad]
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            torch.autograd.grad(module(x), wanted, gradient)
            times.append((time.perf_counter() - start) * 1000)
        total += statistics.median(times)
    return total


def main():
    case = json.loads(sys.argv[1])
    torch.set_num_threads(case["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    layout = torch.channels_last if case["channelsLast"] and len(case["shape"]) == 4 else torch.contiguous_format
    model = make_model(case).to(memory_format=layout).train()
    optimizer = make_optimizer(case, model)
    batches = [
        (torch.rand(case["shape"]) * 2 - 1, torch.randint(case["classes"], (case["shape"][0],)))
        for _ in range(BATCHES)
    ]
    count = 0

    def step():
        nonlocal count
        image, label = batches[count % BATCHES]
        count += 1
        optimizer.zero_grad()
        loss = F.cross_entropy(model(image.to(memory_format=layout)), label)
        loss.backward()
        optimizer.step()
        return loss.item()

    def cpu_seconds():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    def answer(request):
        if "memory" in request:
            return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        if "floor" in request:
            return {"milliseconds": floor(case, model, batches[0][0].to(memory_format=layout))}
        milliseconds = []
        before = cpu_seconds()
        for _ in range(request["run"]):
            start = time.perf_counter()
            loss = step()
            milliseconds.append((time.perf_counter() - start) * 1000)
        cpu = (cpu_seconds() - before) * 1000 / request["run"]
        return {"milliseconds": milliseconds, "cpu": cpu, "loss": loss}

    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"torch": torch.__version__, "parameters": parameters}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


main()
