"""PyTorch eager's side of the training-step benchmark: step.py CASE (a StepCase of bench/step_case.ts as JSON).

Answers each line of JSON on standard input with one line of JSON:
  {"run": steps}    milliseconds of each step
  {"memory": true}  peak resident bytes
  {"floor": true}   milliseconds that the convolutions and linear layers of one step take by themselves
"""

import json
import resource
import sys
import time

import torch
from torch.nn import functional as F

from floor import floor
from models import make_model, make_optimizer

BATCHES = 8


def main():
    case = json.loads(sys.argv[1])
    torch.set_num_threads(case["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    layout = torch.channels_last if case["channelsLast"] and len(case["shape"]) == 4 else torch.contiguous_format
    model = make_model(case).to(memory_format=layout).train()
    optimizer = make_optimizer(case, model, True if case["peerOptimizer"] == "fused" else None)
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
            return floor(model, batches[0][0].to(memory_format=layout))
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
