"""Small networks, one for each structure that `test_tracer` asks about, and their inputs."""

import torch
import torch.nn.functional as F
from test_any_cnn import Net, conv
from torch import nn

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
UP = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def images(*shape):
    """[2, *shape], random."""
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def of_dimensions(dims):
    """A convolutional network in 1, 2 or 3 dimensions, with plain, grouped and depthwise layers."""
    plain, norm = CONV[dims], NORM[dims]
    return nn.Sequential(
        *(plain(2, 8, 3, stride=2, padding=1), norm(8), nn.ReLU()),
        *(plain(8, 12, 3, padding=1, groups=4), nn.PReLU(12)),
        *(plain(12, 12, 3, padding=1, groups=12, bias=False), nn.GroupNorm(6, 12)),
        *(plain(12, 5, 1), nn.Flatten(), nn.Linear(5 * 4**dims, 3)),
    )


def decoder(dims, groups):
    """Transposed convolutions: one plain, one with groups, one plain again."""
    up, norm = UP[dims], NORM[dims]
    return nn.Sequential(
        *(up(2, 8, 2, stride=2), norm(8), nn.ReLU()),
        *(up(8, 16, 3, padding=1, groups=groups), norm(16), nn.ReLU()),
        *(up(16, 6, 2, bias=False), nn.ReLU(), CONV[dims](6, 3, 1)),
    )


class UNet(nn.Module):
    """Two levels, skips by concatenation, transposed convolutions on the way up."""

    def __init__(self):
        super().__init__()
        self.in1, self.in2, self.low = conv(2, 6), conv(6, 8), conv(8, 10)
        self.norm = nn.BatchNorm2d(8)
        self.up2, self.up1 = nn.ConvTranspose2d(10, 8, 2, 2), nn.ConvTranspose2d(7, 6, 2, 2)
        self.out2, self.out1, self.head = conv(16, 7), conv(12, 5), conv(5, 3, 1)

    def forward(self, x):
        first = self.in1(x).relu()
        second = self.norm(self.in2(F.max_pool2d(first, 2))).relu()
        x = self.low(F.max_pool2d(second, 2)).relu()
        x = self.out2(torch.cat([second, self.up2(x)], 1)).relu()
        return self.head(self.out1(torch.cat([first, self.up1(x)], 1)).relu())


class Pyramid(nn.Module):
    """A feature pyramid that returns its levels as a dict, a list or a tuple."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.c1, self.c2, self.c3 = conv(2, 6, stride=2), conv(6, 8, stride=2), conv(8, 10, stride=2)
        self.lateral = nn.ModuleList(conv(i, 7, 1) for i in (6, 8, 10))
        self.smooth = nn.ModuleList(conv(7, 4) for _ in range(3))

    def forward(self, x):
        c1 = self.c1(x).relu()
        c2 = self.c2(c1).relu()
        levels = [lateral(c) for lateral, c in zip(self.lateral, (c1, c2, self.c3(c2).relu()), strict=True)]
        for i in (1, 0):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], size=levels[i].shape[-2:])
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        return dict(zip("abc", levels, strict=True)) if self.kind is dict else self.kind(levels)


class TwoInputs(nn.Module):
    """An image and a vector, which meet in a product and in a concatenation."""

    def __init__(self):
        super().__init__()
        self.image, self.vector, self.scale = conv(3, 8), nn.Linear(5, 6), nn.Linear(6, 8)
        self.hidden, self.head = nn.Linear(14, 7), nn.Linear(7, 2)

    def forward(self, image, vector):
        vector = self.vector(vector).relu()
        image = self.image(image).relu() * self.scale(vector).sigmoid()[:, :, None, None]
        return self.head(self.hidden(torch.cat([image.mean((2, 3)), vector], 1)).relu())


class Tokens(nn.Module):
    """An MLP on [batch, tokens, channels], as in a transformer, without a norm."""

    def __init__(self):
        super().__init__()
        self.embed, self.up, self.down, self.head = (
            nn.Linear(i, o) for i, o in ((4, 8), (8, 12), (12, 8), (8, 3))
        )

    def forward(self, x):
        x = self.embed(x)
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


class ConvNeXtBlock(Net):
    """Depthwise, norm over channels, MLP in channels-last order, and a layer scale of shape `scale`."""

    def __init__(self, scale):
        super().__init__(lambda m, x: x + m.branch(x))
        self.depthwise, self.layer_norm = conv(8, 8, groups=8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.gamma = nn.Parameter(torch.rand(scale))

    def branch(self, x):
        x = self.down(F.gelu(self.up(self.layer_norm(self.depthwise(x).permute(0, 2, 3, 1)))))
        if self.gamma.dim() == 1:
            return (self.gamma * x).permute(0, 3, 1, 2)
        return self.gamma * x.permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """A transformer's block of PyTorch's own between two linear layers; `layers` of them in a row."""

    def __init__(self, layers=0, **options):
        super().__init__()
        options = {"dim_feedforward": 12, "batch_first": True, "dropout": 0.1} | options
        block = nn.TransformerEncoderLayer(8, 2, **options)
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 3)
        self.block = nn.TransformerEncoder(block, layers) if layers else block

    def forward(self, x):
        return self.head(self.block(self.embed(x)).mean(1))


class ScaledBranch(nn.Module):
    """A residual branch with a scale of its own inside, and one without."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c, self.d = (
            conv(i, o, bias=False) for i, o in ((2, 6), (6, 5), (5, 6), (6, 5), (5, 6))
        )
        self.scale, self.head = nn.Parameter(torch.rand(5, 1, 1)), conv(6, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.b(self.scale * self.a(x).relu())
        return self.head(x + self.d(self.c(x).relu()))


class OptionA(nn.Module):
    """A CIFAR ResNet with shortcuts without parameters: every second pixel, and channels of zeros."""

    def __init__(self):
        super().__init__()
        self.stem, self.c1, self.c2, self.c3, self.c4 = (
            conv(i, o, stride=s, bias=False)
            for i, o, s in ((2, 6, 1), (6, 6, 1), (6, 6, 1), (6, 12, 2), (12, 12, 1))
        )
        self.n1, self.n2 = nn.BatchNorm2d(6), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.n1(self.c2(self.c1(x).relu()))).relu()
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))
        x = (shortcut + self.n2(self.c4(self.c3(x).relu()))).relu()
        return self.head(x.mean((2, 3)))


class SelectiveKernel(Net):
    """Two branches, weighed for every channel by a softmax over the branches."""

    def __init__(self):
        super().__init__(lambda m, x: m.select(x))
        self.a, self.b = conv(8, 6), conv(8, 6, 5)
        self.squeeze, self.excite = conv(6, 4, 1), conv(4, 12, 1)
        self.last = conv(6, 6)

    def select(self, x):
        branches = torch.stack([self.a(x).relu(), self.b(x).relu()], 1)
        weights = self.excite(self.squeeze(branches.sum(1).mean((2, 3), keepdim=True)).relu())
        weights = weights.view(len(x), 2, -1, 1, 1).softmax(1)
        return (branches * weights).sum(1)


class Twice(Net):
    """One convolution and one batch norm, each at two places."""

    def __init__(self):
        super().__init__(lambda m, x: m.again(m.shared(m.again(m.shared(x)).relu())))
        self.shared, self.again = conv(8, 8), nn.BatchNorm2d(8)


class Tied(Net):
    """Two layers that share one Parameter: their channels are not tied by anything else."""

    def __init__(self):
        super().__init__(lambda m, x: m.b(m.c(m.a(x)).relu()))
        self.a, self.b, self.c = conv(8, 8, 1), conv(8, 8, 1), conv(8, 8, 1)
        self.b.weight = self.a.weight


class Standardised(nn.Conv2d):
    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w, self.bias)


class Autoencoder(nn.Module):
    """Its decoder multiplies by the encoder's weight, turned round, outside of any layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.encoder, self.last, self.head = (
            nn.Linear(i, o) for i, o in ((4, 6), (6, 5), (6, 7), (7, 3))
        )

    def forward(self, x):
        x = self.encoder(self.stem(x).relu()).relu()
        return self.head(self.last(F.linear(x, self.encoder.weight.t())).relu())


class OutputSize(nn.Module):
    """A transposed convolution that is told its output's size, and a convolution called by name."""

    def __init__(self):
        super().__init__()
        self.down, self.up, self.head = conv(2, 8, stride=2), nn.ConvTranspose2d(8, 6, 3, 2, 1), conv(6, 3)

    def forward(self, x):
        return self.head(input=self.up(self.down(x).relu(), x.shape[-2:]).relu())


class Dense(nn.Conv2d):
    """A convolution that returns its input beside its output, in one tensor."""

    def forward(self, x):
        return torch.cat([x, super().forward(x)], 1)


class Both(nn.Conv2d):
    """A convolution that returns its input beside its output, in a tuple."""

    def forward(self, x):
        return super().forward(x), x


def glu(m, x):
    first, second = m.a(x).chunk(2, 1)
    return first * second.sigmoid()


def channel_and_space(m, x):
    """As in CBAM: one factor for every channel, one for every position."""
    x = x * m.a(x.mean((2, 3), keepdim=True)).sigmoid()
    return x * m.b(x).sigmoid()


def fixed_split(m, x):
    first, second = x.split([4, 4], 1)
    return first * second.sigmoid()


def layer_norm_last(m, x):
    return m.a(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
