"""The networks: the small one of the lessons, those of the papers, and every classifier of torchvision."""

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..support import checks
from ..support.arguments import checked

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
SMALL = (24, 24, "M", 48, 48)  # trains on 8 x 8 digits in seconds on a CPU, and still has layers to compare


class ConvNet(nn.Module):
    """A chain of 3x3 convolutions with batch norm, then global average pooling and a linear layer.

    Args:
        plan: output channels of each convolution; "M" is a 2x2 max pooling.
        in_channels, classes: of the images and their labels.

    Shapes: [batch, in_channels, height, width] -> [batch, classes].
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

    Args:
        in_channels, classes: of the images and their labels.
        image_size: (height, width), at least 16; 28 x 28 gives the paper's 800 inputs to `fc1`.

    Shapes: [batch, in_channels, height, width] -> [batch, classes].
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
    """Two 3x3 convolutions around which the input is carried: relu(x + f(x)).

    Where width or size change, the input passes a 1x1 convolution, as in the Dep-L0 reference.
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

    Args:
        depth: 6 n + 2 layers for n blocks a stage: 20, 56, 110, ...
        in_channels, classes: of the images and their labels.

    Shapes: [batch, in_channels, height, width] -> [batch, classes].

    Raises:
        ValueError: no whole number of blocks gives this depth.
    """

    def __init__(self, depth: int, in_channels: int, classes: int) -> None:
        super().__init__()
        blocks, rest = divmod(checks.whole("depth", depth, 8) - 2, 6)
        if rest:
            raise ValueError(f"depth must be 6 n + 2, such as 20 or 56, got {depth}.")
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        width, stages = 16, []
        for channels in (16, 32, 64):
            for block in range(blocks):
                stages.append(BasicBlock(width, channels, 2 if block == 0 and channels > 16 else 1))
                width = channels
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
    "lenet": LeNet5,
    "vgg16": _vgg16,
    "resnet20": lambda in_channels, classes, image_size: CifarResNet(20, in_channels, classes),
    "resnet56": lambda in_channels, classes, image_size: CifarResNet(56, in_channels, classes),
}
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")  # under which scripts save a network
WRAPPED = r"^((module|_orig_mod)\.)+"  # what DataParallel and torch.compile put before every name
AUXILIARY = ("googlenet", "inception_v3")  # their extra heads serve training only, and are left out


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
        name: "small", "lenet", "vgg16" (for 32 x 32 images), "resnet20", "resnet56" (for CIFAR), or any
            classifier of torchvision by its name there, such as "resnet50" or "mobilenet_v2". A name
            that both have, "vgg16", means the one here.
        in_channels: 3 for torchvision's networks.
        classes: of the labels.
        image_size: (height, width); matters to "lenet" and "vgg16".
        weights: file to start from, a dense network's state_dict in safetensors or in torch's format
            (as torchvision offers for download), also one of a compiled or parallel network, or inside of
            a checkpoint as "state_dict"; without it weights are initialised at random. Only tensors are
            read from it, so that a file from anywhere may be tried.

    Raises:
        ValueError: unknown name, images too small for the network, or weights of another network.
        FileNotFoundError: there is no file of weights.
    """
    arguments = {
        "name": name,
        "in_channels": in_channels,
        "classes": classes,
        "image_size": list(image_size),  # as it comes back from JSON
    }
    for what, number in (("in_channels", in_channels), ("classes", classes)):
        checks.whole(what, number, 1)
    if name in MODELS:
        model = MODELS[name](in_channels, classes, image_size)
    else:
        model = _torchvision_model(name, in_channels, classes)
    model.made_by = arguments  # so that a file of a compact copy can say what to rebuild
    if weights is not None:
        _load_weights(model, Path(weights), name)
    return model


def _torchvision_model(name: str, in_channels: int, classes: int) -> nn.Module:
    from torchvision import models as zoo  # takes half a second, and most networks here need it not

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
            f"{name} of torchvision reads 3 channels, got in_channels={in_channels}: repeat a grey image "
            "three times, or use 'resnet20' or 'resnet56'."
        )
    extra = {"aux_logits": False, "init_weights": True} if name in AUXILIARY else {}
    return zoo.get_model(name, weights=None, num_classes=classes, **extra)


def _load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a state_dict from a file into `model`; heads that `model` does not have are left out."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {str(path)!r}. {_where_to_get(name)}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = _dense_state(state)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} holds no state_dict of tensors alone: {reason}") from error
    own = model.state_dict()
    for key in own.keys() & state.keys():
        if own[key].shape != state[key].shape:
            raise ValueError(
                f"{path} is of another network: {key} has shape {tuple(state[key].shape)} there and "
                f"{tuple(own[key].shape)} in {name!r}; pass the classes and in_channels it was trained with."
            )
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    if missing or unexpected:
        raise ValueError(
            f"{path} is of another network than {name!r}: {_some(missing)} missing, "
            f"{_some(unexpected)} unexpected."
        )
    model.load_state_dict(state, strict=False)


def _dense_state(content: dict) -> dict[str, Tensor]:
    """Weights by the names of a plain network, without auxiliary heads.

    Raises:
        ValueError: something else than a tensor is among them.
    """
    content = next((content[key] for key in CHECKPOINT_KEYS if isinstance(content.get(key), dict)), content)
    state = {re.sub(WRAPPED, "", key): value for key, value in content.items()}
    other = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise ValueError(f"its entry {other!r} is of type {type(state[other]).__name__}.")
    return {key: tensor for key, tensor in state.items() if not key.lower().startswith("aux")}


def _where_to_get(name: str) -> str:
    from torchvision import models as zoo

    if name in MODELS:
        return "Save one by safetensors.torch.save_file(model.state_dict(), path)."
    return f"torchvision's is at {zoo.get_model_weights(name).DEFAULT.url}"


def _some(keys: list[str]) -> str:
    return (", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")) or "nothing"
