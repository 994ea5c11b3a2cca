"""Runs the networks that the conformance test wrote for PyTorch, and compares them with what it computed.

    NIWAKI_CONFORMANCE=target/conformance NIWAKI_CONFORMANCE_TORCH=target/conformance-torch cargo test conformance
    python tests/conformance/torch.py target/conformance-torch
"""

import importlib.util
import pathlib
import sys

# This file has the name of the package.
sys.path = [path for path in sys.path if pathlib.Path(path or ".").resolve() != pathlib.Path(__file__).resolve().parent]

import torch
from safetensors.torch import load_file


def run(folder):
    """What is wrong with a network, if anything is."""
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    weights, values = load_file(folder / "network.safetensors"), load_file(folder / "values.safetensors")
    model = network.load(folder / "network.safetensors")
    if model.state_dict().keys() != weights.keys():
        return f"its state has other names: {sorted(model.state_dict().keys() ^ weights.keys())}"
    inputs = [values[name] for name in sorted(values, key=lambda name: int(name.split(".")[1])) if name.startswith("input")]
    with torch.no_grad():
        outputs = model(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for place, found in enumerate(outputs):
        expected = values[f"output.{place}"]
        if (found.dtype, found.shape) != (expected.dtype, expected.shape):
            return f"output {place} is {found.dtype} {tuple(found.shape)}, not {expected.dtype} {tuple(expected.shape)}"
        if expected.dtype.is_floating_point:
            close = torch.allclose(found.double(), expected.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
        else:
            close = torch.equal(found, expected)
        if not close:
            return f"output {place} is {found.flatten()[:5]}, not {expected.flatten()[:5]}"
    return None


def main():
    passed, failed = 0, []
    for folder in sorted(path.parent for path in pathlib.Path(sys.argv[1]).glob("*/network.py")):
        try:
            problem = run(folder)
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:300]}"
        if problem:
            failed.append(f"{folder.name}: {problem}")
        else:
            passed += 1
    print("\n".join(failed))
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
