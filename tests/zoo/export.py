"""Exports the zoo by both exporters of PyTorch, with inputs and what ONNX Runtime computes of them.

    python tests/zoo/export.py target/zoo [MODEL...]

What is written is described in README.md beside this file.
"""

import argparse
import io
import contextlib
import json
import pathlib
import warnings

warnings.simplefilter("ignore")

import numpy
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from models import MODELS, randomise

# Seed, samples, steps: none as the file was exported with.
SETS = ((1, 1, 5), (2, 3, 8), (3, 4, 11))
EXPORTED = (2, 7)
# What each exporter is called, with how it is asked.
EXPORTERS = {
    "legacy": {"dynamo": False, "opset_version": 17},
    # Batch normalisations and names stay.
    "legacy-training": {
        "dynamo": False,
        "opset_version": 17,
        "training": torch.onnx.TrainingMode.TRAINING,
        "do_constant_folding": False,
    },
    "dynamo": {"dynamo": True},
    "dynamo-plain": {"dynamo": True, "optimize": False},
}


def export(model, inputs, names, path, options, steps):
    """Writes the model with an open batch and, where `steps` is set, an open number of steps."""
    if options["dynamo"]:
        axes = {0: torch.export.Dim("batch")} | ({1: torch.export.Dim("steps")} if steps else {})
        # A module that takes any number of arguments takes them as one list.
        variadic = type(model).__name__ == "Logits"
        shapes = {"dynamic_shapes": ((axes,) * len(inputs),) if variadic else (axes,) * len(inputs)}
    else:
        axes = {0: "batch"} | ({1: "steps"} if steps else {})
        shapes = {"dynamic_axes": {name: axes for name in names} | {"logits": {0: "batch"}}}
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, inputs, path, input_names=names, output_names=["logits"], **options, **shapes)


def write(value, path, name):
    path.write_bytes(numpy_helper.from_array(numpy.ascontiguousarray(value), name).SerializeToString())


def case(name, build, make_inputs, out, exporter, options, steps):
    """Exports one model one way and writes its folder; returns what zoo.json says about it."""
    torch.manual_seed(sum(name.encode()))
    model = build()
    randomise(model)
    model.eval()
    folder = out / f"{name}-{exporter}{'-steps' if steps else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    batch, count = EXPORTED
    inputs = make_inputs(batch, count)
    names = [f"input{place}" if len(inputs) > 1 else "input" for place in range(len(inputs))]
    training = "training" in options
    export(model.train(training), inputs, names, folder / "model.onnx", options, steps)
    model.eval()
    session_options = onnxruntime.SessionOptions()
    session_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session_options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / "model.onnx", session_options, providers=["CPUExecutionProvider"])
    for seed, samples, length in SETS:
        torch.manual_seed(seed)
        inputs = make_inputs(samples, length if steps else count)
        with torch.no_grad():
            own = model(*inputs).numpy()
        # A file that is to be trained leaves elements out when it runs: what counts is the network as it is used.
        feeds = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        found = own if training else session.run(None, feeds)[0]
        assert abs(found - own).max() <= 1e-4 * abs(own).max(), f"{folder.name}: the exporter or the runtime is wrong"
        place = folder / f"set_{seed}"
        place.mkdir(exist_ok=True)
        for index, x in enumerate(inputs):
            write(x.numpy(), place / f"input_{index}.pb", names[index])
        write(found, place / "output_0.pb", "logits")
    nodes = len(onnx.load(folder / "model.onnx", load_external_data=False).graph.node)
    return {"folder": folder.name, "model": name, "exporter": exporter, "steps": steps, "nodes": nodes,
            "names": [key for key in model.state_dict() if not key.endswith("num_batches_tracked")],
            "sets": [seed for seed, _, _ in SETS]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="the folder; it is made where it is missing")
    parser.add_argument("models", nargs="*", help="the models; all where none is named")
    args = parser.parse_args()
    told, failed = [], []
    for name, build, make_inputs, sequential in MODELS:
        if args.models and name not in args.models:
            continue
        for steps in (False, True):
            for exporter, options in EXPORTERS.items():
                if steps and exporter not in sequential:
                    continue
                try:
                    told.append(case(name, build, make_inputs, args.out, exporter, options, steps))
                    print(f"{told[-1]['folder']}: {told[-1]['nodes']} nodes", flush=True)
                except Exception as error:
                    failed.append(f"{name} {exporter} {'steps' if steps else ''}: {type(error).__name__}: {str(error)[:400]}")
                    print(failed[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "zoo.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in told) + "\n]\n")
    if failed:
        raise SystemExit(f"{len(failed)} exports failed")


if __name__ == "__main__":
    main()
