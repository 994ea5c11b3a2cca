"""Lets ONNX Runtime and PyTorch compute what the zoo test wrote, and compares that with what PyTorch's own export gave.

    python tests/zoo/check.py target/zoo

Prints a line for each network; what differs by more than rounding fails.
"""

import argparse
import importlib.util
import json
import pathlib

import numpy
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

# So much of the largest value is rounding.
TOLERANCES = {"again": 1e-4, "half": 5e-3, "torch": 1e-4}


def tensors(folder, what):
    """The tensors of a set, in order."""
    files = sorted(folder.glob(f"{what}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())) for file in files]


def onnx_network(path):
    """A file in ONNX as a function."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def torch_network(folder):
    """A file for PyTorch as a function."""
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load(folder / "network.safetensors")

    def run(inputs):
        inputs = [torch.from_numpy(x.copy()) for x in inputs]
        # It can be trained: a gradient reaches every parameter.
        if inputs[0].shape[0] > 1:
            copy = module.load(folder / "network.safetensors").train()
            copy(*inputs).square().mean().backward()
            left = [name for name, parameter in copy.named_parameters() if parameter.grad is None]
            assert not left, f"no gradient reaches {left}"
        with torch.no_grad():
            return model(*inputs).numpy()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zoo", type=pathlib.Path, help="the folder that export.py and the test wrote to")
    zoo = parser.parse_args().zoo
    failed = []
    print("| model | exporter | open | written again | in half precision | in PyTorch |\n|---|---|---|---|---|---|")
    for case in json.loads((zoo / "zoo.json").read_text()):
        folder = zoo / case["folder"]
        cells = []
        for way, tolerance in TOLERANCES.items():
            try:
                network = torch_network(folder) if way == "torch" else onnx_network(folder / f"{way}.onnx")
                error = 0.0
                for seed in case["sets"]:
                    place = folder / f"set_{seed}"
                    found, expected = network(tensors(place, "input")), tensors(place, "output")[0]
                    error = max(error, float(abs(found - expected).max() / abs(expected).max()))
                cells.append(f"{error:.1e}")
                if not error <= tolerance:
                    failed.append(f"{folder.name}: {way} differs by {error:.1e}")
            except Exception as error:
                cells.append("fails")
                failed.append(f"{folder.name}: {way}: {type(error).__name__}: {str(error)[:300]}")
        steps = "batch, steps" if case["steps"] else "batch"
        print(f"| {case['model']} | {case['exporter']} | {steps} | {' | '.join(cells)} |", flush=True)
    print("\n".join(failed))
    if failed:
        raise SystemExit(f"{len(failed)} problems")


if __name__ == "__main__":
    main()
