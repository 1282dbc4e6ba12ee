"""The networks: the small one of the lessons, those of the papers, and all classifiers of torchvision.

All take images [batch, in_channels, height, width] to logits [batch, classes].
"""

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..support import checked, checks

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
SMALL = (24, 24, "M", 48, 48)  # trains on 8 x 8 digits in seconds on a CPU
MEDIUM = (24, "M", 48, 48, "M", 96, 96)  # 550 gated images of CIFAR-10 a second on one core


class ConvNet(nn.Module):
    """A chain of 3x3 convolutions with batch norm, then global average pooling and a linear layer.

    `plan` has the output channels of each convolution; "M" is a 2x2 max pooling.
    """

    def __init__(self, plan: tuple[int | str, ...], in_channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = in_channels
        for step in plan:
            if step == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                conv = nn.Conv2d(width, step, 3, padding=1, bias=False)  # batch norm has the bias
                layers += [conv, nn.BatchNorm2d(step), nn.ReLU(inplace=True)]
                width = step
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


class LeNet5(nn.Module):
    """LeNet-5 in the shape of the L0-HC paper (20-50-800-500), without batch norm.

    Images have at least 16 x 16 pixels; 28 x 28 give the paper's 800 inputs to `fc1`.
    """

    def __init__(self, in_channels: int, classes: int, image_size: tuple[int, int] = (28, 28)) -> None:
        super().__init__()
        height, width = (((side - 4) // 2 - 4) // 2 for side in image_size)
        if min(height, width) < 1:
            raise ValueError(f"LeNet-5 needs images of at least 16x16 pixels, got {image_size}: use 'small'.")
        self.features = nn.Sequential(
            *(nn.Conv2d(in_channels, 20, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(20, 50, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        )
        self.fc1 = nn.Linear(50 * height * width, 500)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.relu(self.fc1(self.features(x).flatten(1))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions f with a shortcut: relu(x + f(x)).

    Where the width or the image size changes, the shortcut is a 1x1 convolution, as in the Dep-L0 reference.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.shortcut = nn.Identity()
        if stride > 1 or in_channels != channels:
            convolution = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet for 32 x 32 images (He et al. 2016, section 4.2): three stages of 16, 32 and 64 channels.

    Its `depth` is 6 n + 2 layers for n blocks a stage: 20, 56, 110, ... A thinner one begins with a `width`
    of fewer than 16 channels, which double twice all the same.
    """

    def __init__(self, depth: int, in_channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        blocks, rest = divmod(checks.whole("depth", depth, 8) - 2, 6)
        if rest:
            raise ValueError(f"depth must be 6 n + 2, such as 20 or 56, got {depth}.")
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        stages: list[nn.Module] = []
        for stage in range(3):
            for block in range(blocks):
                stride = 2 if block == 0 and stage > 0 else 1
                stages.append(BasicBlock(width, width * stride, stride))
                width *= stride
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        return self.classifier(x.mean((2, 3)))


def _vgg16(in_channels: int, classes: int, image_size: tuple[int, int]) -> ConvNet:
    if min(image_size) < 32:
        raise ValueError(f"VGG16 needs images of at least 32x32 pixels, got {image_size}: use 'small'.")
    return ConvNet(VGG16, in_channels, classes)


MODELS: dict[str, Callable[[int, int, tuple[int, int]], nn.Module]] = {
    "small": lambda in_channels, classes, image_size: ConvNet(SMALL, in_channels, classes),
    "medium": lambda in_channels, classes, image_size: ConvNet(MEDIUM, in_channels, classes),
    "lenet": LeNet5,
    "vgg16": _vgg16,
    "thin_resnet20": lambda in_channels, classes, image_size: CifarResNet(20, in_channels, classes, width=8),
    "resnet20": lambda in_channels, classes, image_size: CifarResNet(20, in_channels, classes),
    "resnet56": lambda in_channels, classes, image_size: CifarResNet(56, in_channels, classes),
}
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")  # where checkpoints keep the weights
WRAPPED = r"^((module|_orig_mod)\.)+"  # prefixes that DataParallel and torch.compile add to every name
AUXILIARY = ("googlenet", "inception_v3")  # with extra heads for training only, which are left out


@checked
def make_model(
    name: str,
    in_channels: int = 3,
    classes: int = 10,
    image_size: tuple[int, int] = (32, 32),
    weights: str | Path | None = None,
) -> nn.Module:
    """A network by name.

    Args:
        name: "small", "medium", "lenet", "vgg16" (for 32 x 32 images), "resnet20", "resnet56" (for CIFAR),
            "thin_resnet20" (with half of the channels), or the name of any classifier of torchvision, such
            as "resnet50" or "mobilenet_v2". "vgg16" is the network of this package, not torchvision's.
        in_channels: channels of the images; 3 for torchvision's networks.
        classes: number of classes.
        image_size: (height, width) in pixels; only "lenet" and "vgg16" depend on it.
        weights: a file with the state_dict of the dense network, in safetensors or in torch's format (as
            torchvision offers for download). It may be that of a compiled or parallel network, or a
            checkpoint with the entry "state_dict". Without it, weights are initialised at random. Only
            tensors are read, so a file from anywhere is safe.

    Raises:
        ValueError: unknown name, images too small for the network, or weights of another network.
        FileNotFoundError: the file of weights does not exist.
    """
    for what, number in (("in_channels", in_channels), ("classes", classes)):
        checks.whole(what, number, 1)
    if name in MODELS:
        model = MODELS[name](in_channels, classes, image_size)
    else:
        model = _torchvision_model(name, in_channels, classes)
    size = list(image_size)  # JSON has no tuples
    # `save_compact` writes this into the file, so that `load_compact` can rebuild the network
    model.made_by = {"name": name, "in_channels": in_channels, "classes": classes, "image_size": size}
    if weights is not None:
        _load_weights(model, Path(weights), name)
    return model


def _torchvision_model(name: str, in_channels: int, classes: int) -> nn.Module:
    from torchvision import models as zoo  # takes half a second, and our own networks do not need it

    known = zoo.list_models(module=zoo)
    if name not in known:
        near = difflib.get_close_matches(str(name).lower(), [*MODELS, *known], n=1, cutoff=0.5)
        raise ValueError(
            f"unknown model {name!r}: choose one of {', '.join(map(repr, MODELS))}, or one of "
            f"torchvision's {len(known)} classifiers by its name."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    if in_channels != 3:
        raise ValueError(
            f"{name} of torchvision reads 3 channels, got in_channels={in_channels}: repeat the grey "
            "channel three times, or use 'resnet20' or 'resnet56'."
        )
    extra = {"aux_logits": False, "init_weights": True} if name in AUXILIARY else {}
    return zoo.get_model(name, weights=None, num_classes=classes, **extra)


def _load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a state_dict from a file into `model`, without auxiliary heads."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {str(path)!r}. {_where_to_get(name)}")
    state, own = _read_state(path), model.state_dict()
    for key in own.keys() & state.keys():
        if own[key].shape != state[key].shape:
            raise ValueError(
                f"{path} has weights of another network: {key} has shape {tuple(state[key].shape)} there and "
                f"{tuple(own[key].shape)} in {name!r}; pass the classes and in_channels of its training run."
            )
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    if missing or unexpected:
        raise ValueError(
            f"{path} has weights of another network than {name!r}: {checks.few(missing, 3)} missing, "
            f"{checks.few(unexpected, 3)} unexpected; pass the name of the network that it was saved from."
        )
    model.load_state_dict(state, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return _dense_state(load_file(path))
        return _dense_state(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} must hold a state_dict with only tensors in it, as torch.save(model.state_dict(), path) "
            f"writes it: {reason}"
        ) from error


def _dense_state(content: dict) -> dict[str, Tensor]:
    """Weights under the names of a plain network, without auxiliary heads."""
    content = next((content[key] for key in CHECKPOINT_KEYS if isinstance(content.get(key), dict)), content)
    state = {re.sub(WRAPPED, "", key): value for key, value in content.items()}
    other = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise ValueError(f"its entry {other!r} is of type {type(state[other]).__name__}.")
    return {key: tensor for key, tensor in state.items() if not key.lower().startswith("aux")}


def _where_to_get(name: str) -> str:
    from torchvision import models as zoo

    if name in MODELS:
        return "Save one with safetensors.torch.save_file(model.state_dict(), path)."
    return f"Download torchvision's weights from {zoo.get_model_weights(name).DEFAULT.url}"
