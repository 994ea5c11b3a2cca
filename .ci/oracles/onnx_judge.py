"""A judge of the ONNX file that a recipe emits: onnxruntime computes the network on the test set, and accuracy and loss are
compared with report.json.

    python onnx_judge.py OUT_DIR DATA_DIR

OUT_DIR holds model.onnx and report.json (`--out` of `run`, `demo` and `jobs download`). DATA_DIR holds MNIST's four IDX files,
CIFAR-10's binary batches, or two .ts files. Exit status 1 if a figure differs.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

# A sample whose two largest outputs are nearly equal may go either way.
ACCURACY = 0.0005
# Of the loss. In half precision runtimes round at other places.
LOSS = {False: 1e-4, True: 2e-2}
BATCH = 250


def mnist(folder: Path):
    read = lambda name: gzip.decompress((folder / f"t10k-{name}.gz").read_bytes())
    images = np.frombuffer(read("images-idx3-ubyte"), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return images, np.frombuffer(read("labels-idx1-ubyte"), np.uint8, offset=8)


def cifar10(folder: Path):
    records = np.fromfile(folder / "test_batch.bin", np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def series(folder: Path):
    """The samples of the .ts file with TEST in its name, padded to the longest of both."""
    parts = {}
    for path in folder.glob("*.ts"):
        text = path.read_text()
        head, rows = text[: text.index("@data")], text[text.index("@data") + 5 :].split()
        classes = next(line for line in head.splitlines() if line.lower().startswith("@classlabel")).split()[2:]
        samples = [row.rsplit(":", 1) for row in rows]
        parts["test" if "TEST" in path.name.upper() else "train"] = (
            [np.array([d.split(",") for d in sample.split(":")], np.float32).T for sample, _ in samples],
            np.array([classes.index(label) for _, label in samples]),
        )
    steps = max(len(sample) for samples, _ in parts.values() for sample in samples)
    samples, labels = parts["test"]
    return np.stack([np.pad(s, ((0, steps - len(s)), (0, 0))) for s in samples]), labels


def data(folder: Path):
    if list(folder.glob("*.ts")):
        return series(folder)
    return cifar10(folder) if (folder / "test_batch.bin").exists() else mnist(folder)


def transformed(x, transforms):
    """As the model's metadata say. Padding of a series, steps of zeros at its end, stays."""
    series = x.ndim == 3
    there = np.cumsum(np.abs(x).sum(2)[:, ::-1], 1)[:, ::-1, None] > 0 if series else True
    shape = (1, 1, -1) if series else (1, -1, 1, 1)
    x = x.astype(np.float32)
    for transform in transforms:
        (kind, config), = transform.items()
        if kind == "scale":
            x = x * np.float32(config["factor"])
        elif kind == "normalize":
            mean, std = (np.asarray(config[key], np.float32).reshape(shape) for key in ("mean", "std"))
            x = (x - mean) / std
        else:
            sys.exit(f"the transform {kind} is not known here")
    return np.where(there, x, 0).astype(np.float32)


def main():
    out, folder = map(Path, sys.argv[1:])
    report = json.loads((out / "report.json").read_text())
    session = ort.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    x, labels = data(folder)
    x = transformed(x, json.loads(metadata.get("niwaki.transforms", "[]")))
    given = session.get_inputs()[0]
    x = x.reshape(len(x), *given.shape[1:])
    logits = [session.run(None, {given.name: x[at : at + BATCH]})[0] for at in range(0, len(x), BATCH)]
    logits = np.concatenate(logits).astype(np.float64)
    accuracy = float((logits.argmax(1) == labels).mean())
    logits -= logits.max(1, keepdims=True)
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = float(-log_softmax[np.arange(len(labels)), labels].mean())
    said = report["result"]
    half = "f16" in json.dumps(report["steps"]).lower()
    agree = abs(accuracy - said["accuracy"]) <= ACCURACY and abs(loss - said["loss"]) <= LOSS[half] * max(loss, 1e-3)
    print(f"onnxruntime {'agrees' if agree else 'DIFFERS'}: accuracy {accuracy:.4f} (report {said['accuracy']:.4f}), "
          f"loss {loss:.7f} (report {said['loss']:.7f}), {len(labels)} samples")
    sys.exit(0 if agree else 1)


main()
