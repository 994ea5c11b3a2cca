"""The zoo's networks: 14 architectures with random weights, each small enough to run in moments."""

import torch
import torchvision
import transformers
from torch import nn
from torchvision.models import convnext, densenet, vision_transformer

CLASSES = 10


class Recurrent(nn.Module):
    """An LSTM whose last step is classified."""

    def __init__(self, layers, bidirectional):
        super().__init__()
        self.lstm = nn.LSTM(12, 16, layers, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear(32 if bidirectional else 16, CLASSES)

    def forward(self, x):
        states, _ = self.lstm(x)
        return self.fc(states[:, -1])


class Encoder(nn.Module):
    """A transformer encoder whose mean is classified."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.fc(self.encoder(x).mean(1))


class Logits(nn.Module):
    """A Hugging Face model that gives its logits alone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *inputs):
        return self.model(*inputs).logits


def hf_vit():
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8,
        num_labels=CLASSES,
    )
    return Logits(transformers.ViTForImageClassification(config))


def hf_bert():
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=32, num_labels=CLASSES,
    )
    return Logits(transformers.BertForSequenceClassification(config))


def small_densenet():
    return densenet.DenseNet(8, (2, 3, 2, 2), 16, bn_size=2, num_classes=CLASSES)


def small_convnext():
    blocks = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, 64, 1), convnext.CNBlockConfig(64, None, 2)]
    return convnext.ConvNeXt(blocks, num_classes=CLASSES)


def torchvision_vit():
    return vision_transformer.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=CLASSES
    )


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.GELU(), nn.Linear(32, CLASSES))


def images(side, channels=3):
    return lambda batch, steps: (torch.randn(batch, channels, side, side),)


def sequences(features):
    return lambda batch, steps: (torch.randn(batch, steps, features),)


def tokens(batch, steps):
    """Numbers of tokens, and a mask that hides the last ones of each sample but the first."""
    mask = torch.ones(batch, steps, dtype=torch.int64)
    for sample in range(1, batch):
        mask[sample, max(1, steps - sample) :] = 0
    return torch.randint(0, 100, (batch, steps)), mask


LEGACY = ("legacy", "legacy-training")
ALL = (*LEGACY, "dynamo", "dynamo-plain")
# Name, network, inputs for a batch and a number of steps, and the exporters that leave the number of steps open: the newer
# one fixes that of an LSTM, whatever it is told.
MODELS = [
    ("resnet18", lambda: torchvision.models.resnet18(num_classes=CLASSES), images(32), ()),
    ("mobilenet_v2", lambda: torchvision.models.mobilenet_v2(num_classes=CLASSES, width_mult=0.5), images(32), ()),
    ("mobilenet_v3_small", lambda: torchvision.models.mobilenet_v3_small(num_classes=CLASSES), images(32), ()),
    ("shufflenet_v2", lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=CLASSES), images(32), ()),
    ("densenet", small_densenet, images(32), ()),
    ("squeezenet", lambda: torchvision.models.squeezenet1_1(num_classes=CLASSES), images(48), ()),
    ("convnext", small_convnext, images(32), ()),
    ("lstm", lambda: Recurrent(1, False), sequences(12), LEGACY),
    ("bilstm", lambda: Recurrent(2, True), sequences(12), LEGACY),
    ("transformer_encoder", Encoder, sequences(32), ()),
    ("torchvision_vit", torchvision_vit, images(32), ()),
    ("hf_vit", hf_vit, images(32), ()),
    ("hf_bert", hf_bert, tokens, ALL),
    ("mlp", mlp, images(8, 1), ()),
]


def randomise(model):
    """What starts as zeros and ones, statistics among it, gets numbers that matter."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            centre = 1.0 if name.endswith("weight") else 0.0
            nn.init.normal_(parameter, centre, 0.1)
        elif not parameter.any() or name.endswith("layer_scale"):
            nn.init.normal_(parameter, 0.0, 0.5)
