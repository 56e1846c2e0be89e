"""PyTorch's side of `npm run bench:train`: train.py CASE VARIANT (a TrainCase of bench/train_case.ts as JSON;
eager, amp, compile or compile_amp).

Says once that it is ready, with what compiling took, or {"failed": why}. Then answers each line of JSON on standard
input with one line of JSON:
  {"run": steps}         milliseconds of each step, processor time a step
  {"memory": true}       peak bytes: resident on the CPU, allocated on a GPU
  {"floor": repeats}     milliseconds that the convolutions and linear layers of one step take by themselves
  {"checkpoint": times}  torch.save of model and optimizer: milliseconds, processor time and bytes
  {"resume": true}       from building the model to the end of the first step after torch.load: milliseconds
"""

import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time

import torch
from torch.nn import functional as F

from floor import floor
from models import make_model, make_optimizer

BATCHES = 4
HALF = torch.bfloat16


class Training:
    def __init__(self, case, variant):
        self.case = case
        self.device = case["device"]
        self.layout = torch.channels_last if len(case["shape"]) == 4 else torch.contiguous_format
        self.amp = variant in ("amp", "compile_amp")
        self.model = make_model(case).to(self.device, memory_format=self.layout).train()
        self.optimizer = make_optimizer(case, self.model, True)
        forward = self.loss
        self.forward = torch.compile(forward) if variant.startswith("compile") else forward
        self.count = 0
        self.batches = [self.make_batch() for _ in range(BATCHES)]

    def make_batch(self):
        shape = self.case["shape"]
        image = (torch.rand(shape) * 2 - 1).to(self.device)
        if len(shape) == 4:
            image = image.contiguous(memory_format=self.layout)
        if self.case["loss"] == "mse":
            target = torch.rand(shape[0], self.case["classes"], *shape[2:])
        else:
            target = torch.randint(self.case["classes"], (shape[0],))
        return image, target.to(self.device)

    def loss(self, image, target):
        output = self.model(image)
        return F.mse_loss(output, target) if self.case["loss"] == "mse" else F.cross_entropy(output, target)

    def step(self):
        image, target = self.batches[self.count % BATCHES]
        self.count += 1
        self.optimizer.zero_grad()
        with torch.autocast(self.device, HALF, enabled=self.amp):
            loss = self.forward(image, target)
        loss.backward()
        self.optimizer.step()
        # Fornax reads each loss on a CPU, too; on a GPU neither side waits for it.
        return loss.item() if self.device == "cpu" else loss.detach()


def synchronize(case):
    if case["device"] != "cpu":
        torch.cuda.synchronize()


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run(training, steps):
    """On a GPU in pieces, each waited for: a step returns before it is done."""
    milliseconds = []
    piece = 1 if training.device == "cpu" else max(1, steps // 20)
    before = cpu_seconds()
    done = 0
    while done < steps:
        count = min(piece, steps - done)
        start = time.perf_counter()
        for _ in range(count):
            loss = training.step()
        synchronize(training.case)
        milliseconds.append((time.perf_counter() - start) * 1000 / count)
        done += count
    cpu = (cpu_seconds() - before) * 1000 / steps
    return {"milliseconds": milliseconds, "cpu": cpu, "loss": float(loss)}


def save(training, folder):
    torch.save(training.model.state_dict(), os.path.join(folder, "model.pth"))
    torch.save(training.optimizer.state_dict(), os.path.join(folder, "optimizer.pth"))


def checkpoint(training, times):
    milliseconds, processor = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(times):
            synchronize(training.case)
            start, before = time.perf_counter(), cpu_seconds()
            save(training, folder)
            milliseconds.append((time.perf_counter() - start) * 1000)
            processor.append((cpu_seconds() - before) * 1000)
        size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    return {
        "pause": statistics.median(milliseconds),
        "processor": statistics.median(processor),
        "bytes": size,
    }


def resume(training, variant):
    folder = tempfile.mkdtemp()
    try:
        save(training, folder)
        start = time.perf_counter()
        fresh = Training.__new__(Training)
        fresh.__dict__.update(training.__dict__)
        fresh.model = make_model(training.case).to(training.device, memory_format=training.layout).train()
        fresh.optimizer = make_optimizer(training.case, fresh.model, True)
        fresh.forward = fresh.loss
        fresh.model.load_state_dict(torch.load(os.path.join(folder, "model.pth"), weights_only=True))
        fresh.optimizer.load_state_dict(torch.load(os.path.join(folder, "optimizer.pth"), weights_only=True))
        fresh.step()
        synchronize(training.case)
        return {"milliseconds": (time.perf_counter() - start) * 1000}
    finally:
        shutil.rmtree(folder)


def memory(case):
    if case["device"] != "cpu":
        return {"bytes": torch.cuda.max_memory_allocated()}
    return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def answer(training, variant, request):
    if "run" in request:
        return run(training, request["run"])
    if "memory" in request:
        return memory(training.case)
    if "floor" in request:
        dtypes = (torch.float32, HALF) if training.device == "cpu" else (HALF,)
        return floor(training.model, training.batches[0][0], dtypes, training.device, repeat=request["floor"])
    if "checkpoint" in request:
        return checkpoint(training, request["checkpoint"])
    return resume(training, variant)


def say(value):
    print(json.dumps(value), flush=True)


def main():
    case, variant = json.loads(sys.argv[1]), sys.argv[2]
    torch.set_flush_denormal(True)
    if case["device"] == "cpu":
        torch.set_num_threads(case["threads"])
    else:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(0)
    try:
        training = Training(case, variant)
        start = time.perf_counter()
        training.step()
        synchronize(case)
        first = time.perf_counter() - start
    except Exception as error:  # the benchmark reports a peer that cannot do the case
        say({"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"})
        return
    parameters = sum(p.numel() for p in training.model.parameters())
    say({"torch": torch.__version__, "parameters": parameters, "firstSeconds": first})
    for line in sys.stdin:
        say(answer(training, variant, json.loads(line)))


main()
