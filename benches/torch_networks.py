"""niwaki's built-in networks in PyTorch, with the names that their parameters have in niwaki.

`load` takes niwaki's parameters over; an LSTM's differ in their form: niwaki keeps those of both directions in one tensor,
the gates in the order input, output, forget, cell, and both biases in a row, as ONNX has it. Queries, keys and values of
attention are three layers in niwaki and one in PyTorch.
"""

import re

import torch
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """784-300-100-10 with ReLU."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class LeNet5(nn.Module):
    """Images 28x28, 6 and 16 filters 5x5, max-pooling, 120-84-10."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class Block(nn.Module):
    """Two convolutions 3x3 with batch normalisation, and the input beside them: through a convolution 1x1 where the shape
    changes."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer)
        self.conv2, self.bn2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer)
        self.shortcut = None
        if inner != outer:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y)) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y, inplace=True)


class ResNet20(nn.Module):
    """Images 3x32x32, three stages of three blocks with 16, 32 and 64 channels (He et al. 2015)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inner = 16
        for stage, outer in enumerate((16, 32, 64), 1):
            blocks = []
            for _ in range(3):
                blocks.append(Block(inner, outer, 1 if inner == outer else 2))
                inner = outer
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Lstm(nn.Module):
    """100 steps of 64 channels, 128 units, the last state to ten classes."""

    def __init__(self):
        super().__init__()
        self.lstm1, self.fc = nn.LSTM(64, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.fc(self.lstm1(x)[0][:, -1])


class Transformer(nn.Module):
    """64 steps of 32 channels, two blocks of 128 units with 4 heads, the mean of the states to ten classes."""

    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Linear(32, 128), nn.Linear(128, 10)
        block = nn.TransformerEncoderLayer(128, 4, 512, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(128), enable_nested_tensor=False)
        # Sines and cosines in turn (Vaswani et al. 2017).
        angle = torch.arange(64)[:, None] / 10000 ** (torch.arange(0, 128, 2, dtype=torch.float64) / 128)
        places = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)
        self.register_buffer("places", places.float(), persistent=False)

    def forward(self, x):
        return self.fc(self.blocks(self.embed(x) + self.places).mean(1))


# A network, and the shape of a batch.
NETWORKS = {
    "mlp": (Mlp, (128, 784)),
    "lenet5": (LeNet5, (128, 1, 28, 28)),
    "resnet20": (ResNet20, (128, 3, 32, 32)),
    "lstm": (Lstm, (64, 100, 64)),
    "transformer": (Transformer, (32, 64, 32)),
}


# Layers of a transformer's block whose names differ.
BLOCK_PARTS = {"out": "self_attn.out_proj", "fc1": "linear1", "fc2": "linear2"}


def from_niwaki(tensors):
    """Parameters, or their gradients, by PyTorch's names and in its form. Of an LSTM only one direction is taken."""
    result = {}
    for name, tensor in tensors.items():
        layer, role = name.rsplit(".", 1)
        block = re.fullmatch(r"block(\d+)\.(\w+)", layer)
        if role == "value":
            continue  # a constant
        if block:
            start, part = f"blocks.layers.{int(block[1]) - 1}", block[2]
            if part == "q":
                parts = [tensors[f"block{block[1]}.{other}.{role}"] for other in "qkv"]
                result[f"{start}.self_attn.in_proj_{role}"] = torch.cat(parts)
            elif part not in ("k", "v"):
                result[f"{start}.{BLOCK_PARTS.get(part, part)}.{role}"] = tensor
        elif layer == "norm":
            result[f"blocks.norm.{role}"] = tensor
        elif layer.startswith("lstm"):
            # Input, output, forget, cell; PyTorch has input, forget, cell, output.
            names = ["bias_ih_l0", "bias_hh_l0"] if role == "bias" else [f"{role}_l0"]
            for name, part in zip(names, tensor[0].chunk(len(names)), strict=True):
                i, o, f, c = part.chunk(4)
                result[f"{layer}.{name}"] = torch.cat([i, f, c, o])
        else:
            result[name] = tensor
    return result


def load(model, tensors):
    """Takes over all of niwaki's parameters."""
    missing, unexpected = model.load_state_dict(from_niwaki(tensors), strict=False)
    left = [name for name in missing if not name.endswith("num_batches_tracked")]
    if left or unexpected:
        raise SystemExit(f"the networks differ: {left} are missing, {unexpected} are left over")
