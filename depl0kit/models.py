"""The networks: the small one of the lessons, LeNet-5, and VGG16 for 32 x 32 images."""

from torch import Tensor, nn

from . import checks

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


def _vgg16(in_channels: int, classes: int, image_size: tuple[int, int]) -> ConvNet:
    if min(image_size) < 32:
        raise ValueError(f"VGG16 needs images of at least 32x32 pixels, got {image_size}: use 'small'.")
    return ConvNet(VGG16, in_channels, classes)


MODELS = {
    "small": lambda in_channels, classes, image_size: ConvNet(SMALL, in_channels, classes),
    "lenet": LeNet5,
    "vgg16": _vgg16,
}


def make_model(
    name: str, in_channels: int = 3, classes: int = 10, image_size: tuple[int, int] = (32, 32)
) -> nn.Module:
    """A network by name: "small", "lenet" or "vgg16", with freshly initialised weights.

    Raises:
        ValueError: unknown name, or images too small for the network.
    """
    return MODELS[checks.one_of("model", name, MODELS)](in_channels, classes, image_size)
