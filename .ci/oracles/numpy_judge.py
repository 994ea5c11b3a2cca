"""An independent judge of what niwaki emits: reads the file with the safetensors library, runs the network in NumPy on
the MNIST test set, and compares accuracy, loss and counts with report.json.

    python numpy_judge.py OUT_DIR MNIST_DIR

OUT_DIR holds model.safetensors and report.json (`--out` of `run`, `demo` and `jobs download`). Exit status 1 if any
figure differs.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors import safe_open


def read_idx(folder: Path, name: str) -> np.ndarray:
    data = gzip.decompress((folder / f"{name}.gz").read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def windows(x, a, kernel):
    """All windows of [n, c, h, w], as [n, c, out_h, out_w, kh, kw]."""
    kh, kw = kernel
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, a["dilation"])]
    view = sliding_window_view(x, reach, axis=(2, 3))
    sh, sw = a["stride"]
    dh, dw = a["dilation"]
    return view[:, :, ::sh, ::sw, ::dh, ::dw]


def pad(x, a, value):
    top, left, bottom, right = a["padding"]
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def conv2d(x, weight, bias, a):
    out, per_group, kh, kw = weight.shape
    groups = a["groups"]
    w = windows(pad(x, a, 0.0), a, (kh, kw))
    n, _, oh, ow = w.shape[:4]
    w = w.reshape(n, groups, per_group, oh, ow, kh, kw)
    y = np.einsum("ngihwkl,goikl->ngohw", w, weight.reshape(groups, out // groups, per_group, kh, kw), optimize=True)
    return y.reshape(n, out, oh, ow) + bias[:, None, None]


def node(op, x, a, weight, bias):
    if op == "Linear":
        return x @ weight.T + bias
    if op == "Conv2d":
        return conv2d(x, weight, bias, a)
    if op == "MaxPool2d":
        return windows(pad(x, a, -np.inf), a, a["kernel"]).max((4, 5))
    if op == "Flatten":
        return x.reshape(len(x), -1)
    if op == "Relu":
        return np.maximum(x, 0)
    if op == "Sigmoid":
        return 1 / (1 + np.exp(-x))
    if op == "Tanh":
        return np.tanh(x)
    raise SystemExit(f"the judge does not know the operator {op}")


def forward(graph, tensors, x):
    values = {graph["inputs"][0]["name"]: x}
    for n in graph["nodes"]:
        params = n.get("params", {})
        weight = tensors.get(params.get("weight"))
        bias = tensors.get(params.get("bias"), np.float32(0))
        values[n["name"]] = node(n["op"], values[n["inputs"][0]], n.get("attributes", {}), weight, bias)
    return values[graph["outputs"][0]]


def transform(x, transforms):
    for t in transforms:
        if "scale" in t:
            x = x * np.float32(t["scale"]["factor"])
        else:
            mean, std = (np.array(t["normalize"][k], np.float32)[:, None, None] for k in ("mean", "std"))
            x = (x - mean) / std
    return x


def main() -> int:
    out, mnist = Path(sys.argv[1]), Path(sys.argv[2])
    report = json.loads((out / "report.json").read_text())
    with safe_open(out / "model.safetensors", "numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}
    graph = json.loads(metadata["niwaki.graph"])
    images = read_idx(mnist, "t10k-images-idx3-ubyte").astype(np.float32)[:, None]
    labels = read_idx(mnist, "t10k-labels-idx1-ubyte")
    images = transform(images, json.loads(metadata["niwaki.transforms"]))
    images = images.reshape(len(images), *graph["inputs"][0]["shape"])

    logits = np.concatenate([forward(graph, tensors, images[i : i + 500]) for i in range(0, len(images), 500)])
    logits = logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    loss = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels])
    found = {
        "accuracy": float(np.mean(logits.argmax(1) == labels)),
        "loss": float(loss),
        "bytes": (out / "model.safetensors").stat().st_size,
        "params": sum(t.size for t in tensors.values()),
        "nonzero_params": int(sum(np.count_nonzero(t) for t in tensors.values())),
    }
    # Sums are taken in another order, so a sample on the border of two classes may fall to the other side.
    tolerance = {"accuracy": 2.5 / len(labels), "loss": 1e-5}
    wrong = 0
    for name, value in found.items():
        said = report["result"][name]
        agrees = abs(said - value) <= tolerance.get(name, 0)
        wrong += not agrees
        print(f"{name:15} report {said:<22} judge {value:<22} {'ok' if agrees else 'DIFFERS'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
