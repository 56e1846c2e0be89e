"""What no implementation on the same kernels can go below: a step's convolutions and linear layers alone."""

import statistics
import time

import torch
from torch import nn

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def layer_calls(model, batch):
    """Each call of such a layer in one forward: the layer, its input and its output."""
    calls = []
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output: calls.append((module, inputs[0].detach(), output.detach()))
        )
        for module in model.modules()
        if isinstance(module, LAYERS)
    ]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return calls


def timed(module, x, y, dtype, device, repeat):
    """Median milliseconds of forward and backward, everything in `dtype` already."""
    module = module.to(dtype)
    x = x.to(dtype)
    gradient = torch.randn_like(y, dtype=dtype)
    wanted = [t for t in (x, module.weight, module.bias) if t is not None and t.requires_grad]
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(repeat):
        synchronize()
        start = time.perf_counter()
        torch.autograd.grad(module(x), wanted, gradient)
        synchronize()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def floor(model, batch, dtypes=(torch.float32,), device="cpu", repeat=7):
    """The sum over the layers of the best of the dtypes, and how many layers are fastest in each."""
    import copy

    total = 0.0
    fastest = {str(dtype).removeprefix("torch."): 0 for dtype in dtypes}
    for i, (module, x, y) in enumerate(layer_calls(model, batch)):
        times = {}
        for dtype in dtypes:
            layer = copy.deepcopy(module)
            # The first layer's input needs no gradient.
            source = x.to(dtype).clone(memory_format=torch.preserve_format).requires_grad_(i > 0)
            times[str(dtype).removeprefix("torch.")] = timed(layer, source, y, dtype, device, repeat)
        best = min(times, key=times.get)
        total += times[best]
        fastest[best] += 1
    return {"milliseconds": total, "fastest": fastest}
