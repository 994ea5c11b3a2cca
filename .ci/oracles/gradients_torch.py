"""Lets PyTorch compute the passes that `examples/gradients.rs` wrote down, and compares outputs, loss, gradients and running
statistics.

    python .ci/oracles/gradients_torch.py FOLDER

Of each tensor it is the largest difference that counts, by PyTorch's largest value; what differs by more than rounding
fails. PyTorch computes in 64 bits, so the difference is niwaki's alone; for comparison, `torch` is what PyTorch itself is off
by in 32 bits. A gradient jumps where the input of a ReLU changes its sign: `kink` is how close to zero one comes, and where
rounding takes it across there is nothing to compare.
"""

import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "benches"))
from torch_networks import NETWORKS, from_niwaki, load

TOLERANCE = 1e-4


class Kinks(TorchFunctionMode):
    """Sees how close to zero the inputs of ReLUs come."""

    nearest = float("inf")

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.relu:
            self.nearest = min(self.nearest, float(args[0].detach().abs().min()))
        return function(*args, **(kwargs or {}))


def pass_of_torch(build, parameters, known, dtype):
    """What niwaki wrote down, as PyTorch computes it from the same parameters, input and labels."""
    model = build()
    load(model, parameters)
    model = model.to(dtype).train()
    output = model(known["input"].to(dtype))
    loss = F.cross_entropy(output, known["labels"])
    loss.backward()
    found = {"output": output.detach(), "loss": loss.detach().reshape(1)}
    found |= {f"gradient.{name}": parameter.grad for name, parameter in model.named_parameters()}
    found |= {f"after.{name}": value for name, value in model.named_buffers() if "running" in name}
    return {name: value.double() for name, value in found.items()}


def by_name(known):
    """What niwaki wrote down, by PyTorch's names and in its form."""
    found = {name: known[name] for name in ("output", "loss")}
    for kind in ("gradient.", "after."):
        tensors = {name.removeprefix(kind): value for name, value in known.items() if name.startswith(kind)}
        found |= {kind + name: value for name, value in from_niwaki(tensors).items()}
    return {name: value.double() for name, value in found.items()}


def errors(found, expected):
    """The largest difference of each tensor, by the largest expected value."""
    if found.keys() != expected.keys():
        raise SystemExit(f"the networks differ in {sorted(found.keys() ^ expected.keys())}")
    return {name: float((found[name] - e).abs().max() / e.abs().max()) for name, e in expected.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="the folder that the example wrote to")
    folder = parser.parse_args().folder
    failed = []
    print("| network | output | loss | worst gradient | of | worst statistic | torch | kink |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (build, _) in NETWORKS.items():
        parameters, known = (load_file(folder / name / f"{file}.safetensors") for file in ("model", "pass"))
        with Kinks() as kinks:
            exact = pass_of_torch(build, parameters, known, torch.float64)
        single = pass_of_torch(build, parameters, known, torch.float32)
        ours, its_own = errors(by_name(known), exact), errors(single, exact)
        # Not a number is worse than any.
        worst = lambda of, kind: max((v if v == v else float("inf"), n) for n, v in of.items() if n.startswith(kind))
        gradient, of = worst(ours, "gradient.")
        statistic = f"{worst(ours, 'after.')[0]:.1e}" if any(n.startswith("after.") for n in ours) else ""
        cells = [name, f"{ours['output']:.1e}", f"{ours['loss']:.1e}", f"{gradient:.1e}", of.removeprefix("gradient.")]
        cells += [statistic, f"{worst(its_own, 'gradient.')[0]:.1e}", f"{kinks.nearest:.0e}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        failed += [f"{name}: {n} differs by {v:.1e}" for n, v in ours.items() if not v <= TOLERANCE]
    if failed:
        print("\n".join(failed))
        raise SystemExit(f"{len(failed)} problems")


if __name__ == "__main__":
    main()
