"""Structured pruning against Torch-Pruning: the same network, the same share of channels, the same importance, before any training.

    python benches/versus_torch_pruning.py --niwaki target/release/niwaki \
        --model pretrainedResnet.onnx --state pretrainedResnet.safetensors --data cifar10/ --markdown

The network is MLPerf Tiny's ResNet-8 for CIFAR-10. (Torch-Pruning 1.6 cannot cut the ResNet-20 of
akamaster/pytorch_resnet_cifar10: it loses count at shortcuts that slice and pad.) Both sides are measured on CIFAR-10's test images: Torch-Pruning's
network in PyTorch, niwaki's by the report of a recipe with one step. niwaki is asked twice: with weights as they are, and
with the layers behind a cut fitted anew on training images, which is its default.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import torch_pruning
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

# Ours, and what Torch-Pruning calls the same.
IMPORTANCES = {
    "L2": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "L1": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=1),
    "BATCH_NORM_SCALE": torch_pruning.importance.BNScaleImportance,
    "FPGM": lambda: torch_pruning.importance.FPGMImportance(p=2),
    "TAYLOR": torch_pruning.importance.GroupTaylorImportance,
    "RANDOM": torch_pruning.importance.RandomImportance,
}


class ResNet8(nn.Module):
    """The CIFAR-10 network of MLPerf Tiny, with its parameters' names. Strided convolutions pad at the end alone."""

    def __init__(self):
        super().__init__()
        widths = [(3, 16, 3), (16, 16, 3), (16, 16, 3), (16, 32, 3), (32, 32, 3), (16, 32, 1), (32, 64, 3), (64, 64, 3), (32, 64, 1)]
        for number, (inner, out, kernel) in enumerate(widths):
            setattr(self, numbered("conv2d", number), nn.Conv2d(inner, out, kernel))
        for number, width in enumerate((16, 16, 16, 32, 32, 64, 64)):
            setattr(self, numbered("batch_normalization", number), nn.BatchNorm2d(width, eps=1e-3))
        self.dense = nn.Linear(64, 10)

    def conv(self, number, x, stride=1):
        layer = getattr(self, numbered("conv2d", number))
        layer.stride = (stride, stride)
        wide = layer.kernel_size[0] > 1
        return layer(functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)) if wide else x)

    def norm(self, number, x):
        return getattr(self, numbered("batch_normalization", number))(x)

    def forward(self, x):
        x = functional.relu(self.norm(0, self.conv(0, x)))
        y = functional.relu(self.norm(1, self.conv(1, x)))
        x = functional.relu(x + self.norm(2, self.conv(2, y)))
        for conv, norm in ((3, 3), (6, 5)):
            y = functional.relu(self.norm(norm, self.conv(conv, x, 2)))
            x = functional.relu(self.conv(conv + 2, x, 2) + self.norm(norm + 1, self.conv(conv + 1, y)))
        return self.dense(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def numbered(name, number):
    return f"{name}_{number}" if number else name


def images(folder, name):
    records = numpy.fromfile(pathlib.Path(folder) / name, numpy.uint8).reshape(-1, 3073)
    return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).astype(numpy.float32)), torch.from_numpy(records[:, 0].astype(numpy.int64))


def accuracy(model, inputs, labels):
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(inputs.split(500), labels.split(500)))
    return right / len(labels)


def network(state):
    model = ResNet8()
    # The counters of batches are not in the file.
    problems = [key for keys in model.load_state_dict(state, strict=False) for key in keys if "num_batches" not in key]
    if problems:
        raise SystemExit(f"the parameters are not those of the network: {problems[:3]}")
    return model.eval()


def theirs(state, importance, ratio, train, test):
    """Accuracy, parameters and MACs of Torch-Pruning's network."""
    torch.manual_seed(1)
    model = network(state)
    example = torch.randn(1, 3, 32, 32)
    pruner = torch_pruning.pruner.MetaPruner(
        model, example, importance=IMPORTANCES[importance](), pruning_ratio=ratio, ignored_layers=[model.dense]
    )
    if importance == "TAYLOR":
        inputs, labels = train
        for x, y in zip(inputs[:2048].split(64), labels[:2048].split(64)):
            functional.cross_entropy(model(x), y).backward()
    pruner.step()
    macs, params = torch_pruning.utils.count_ops_and_params(model, example)
    return {"accuracy": accuracy(model, *test), "params": params, "macs": macs}


def ours(args, importance, ratio, repair):
    step = {"ratio": ratio, "importance": f"IMPORTANCE_{importance}", "repair": f"REPAIR_{repair}", "round_to": 1, "max_ratio": 0.99}
    recipe = {
        "version": 1,
        "name": "versus",
        "seed": 1,
        "data": {
            "split": {"validation_fraction": 0.05},
        },
        "steps": [{"prune_channels": step}],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "recipe.json"
        path.write_text(json.dumps(recipe))
        command = [args.niwaki, "run", str(path), "--model", args.model, "--data", args.data, "--out", f"{folder}/out"]
        subprocess.run(command, check=True, capture_output=True)
        report = json.loads((pathlib.Path(folder) / "out" / "report.json").read_text())
    return report["result"] | {"masked": report["steps"][0]["channels"]["masked_difference"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--niwaki", required=True)
    parser.add_argument("--model", required=True, help="the network as niwaki reads it")
    parser.add_argument("--state", required=True, help="its parameters, .safetensors with PyTorch's names")
    parser.add_argument("--data", required=True, help="folder with CIFAR-10's binary files")
    parser.add_argument("--ratios", default="0.125,0.25,0.5")
    parser.add_argument("--importances", default=",".join(IMPORTANCES))
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    state, train, test = load_file(args.state), images(args.data, "data_batch_1.bin"), images(args.data, "test_batch.bin")
    print(f"dense: {100 * accuracy(network(state), *test):.2f} %", file=sys.stderr)
    rows, lost = [], 0
    for importance in args.importances.split(","):
        for ratio in map(float, args.ratios.split(",")):
            peer = theirs(state, importance, ratio, train, test)
            plain, fitted = (ours(args, importance, ratio, repair) for repair in ("NONE", "RECONSTRUCT"))
            best = max(plain["accuracy"], fitted["accuracy"])
            lost += peer["accuracy"] > best
            row = [importance.lower(), f"{ratio}", *(f"{100 * r['accuracy']:.2f} %" for r in (peer, plain, fitted))]
            row += [f"{peer['macs'] / 1e6:.1f} M", f"{plain['macs'] / 1e6:.1f} M", f"{peer['params']:,}", f"{plain['params']:,}"]
            rows.append(row + [f"{plain['masked']:.0e}"])
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    head = ["importance", "ratio", "Torch-Pruning", "niwaki, as they are", "niwaki, fitted anew", "MACs, theirs", "ours"]
    head += ["parameters, theirs", "ours", "cut against masked"]
    if args.markdown:
        print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        print("\n".join("| " + " | ".join(row) + " |" for row in rows))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
