"""Checks ONNX files with onnx.checker and runs them with ONNX Runtime, for test/support/onnx_peer.ts.

Reads one job per line of standard input: {"file", "runs": [{input name: {"file", "dtype", "shape"}}], "out"}.
Writes the outputs of run i to OUT.i.NAME.bin and answers one line per job: a list of {name: shape} per run, or an error.
"""

import json
import os
import sys

import numpy
import onnx
import onnxruntime


def run(job):
    onnx.checker.check_model(job["file"], full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(job["file"], options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = []
    for i, inputs in enumerate(job["runs"]):
        feeds = {
            name: numpy.fromfile(spec["file"], dtype=spec["dtype"]).reshape(spec["shape"])
            for name, spec in inputs.items()
        }
        results = session.run(names, feeds)
        for name, value in zip(names, results):
            value.tofile(f"{job['out']}.{i}.{name}.bin")
        answers.append({name: {"shape": value.shape, "dtype": str(value.dtype)} for name, value in zip(names, results)})
    return {
        "runs": answers,
        "metadata": session.get_modelmeta().custom_metadata_map,
        "bytes": os.path.getsize(job["file"]),
    }


for line in sys.stdin:
    try:
        answer = run(json.loads(line))
    except Exception as error:  # one bad file must not end the others
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
