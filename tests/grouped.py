"""A network of all kinds of layers that write channels."""

from torch import nn


class Grouped(nn.Module):
    """A grouped, a depthwise and a transposed convolution, and a layer that reads a flatten."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grouped, self.depthwise = nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(6, 6, 3, groups=6)
        self.middle, self.up = nn.Conv2d(8, 6, 1), nn.ConvTranspose2d(6, 5, 2, 2)
        self.head = nn.Linear(5 * 64, 10)

    def forward(self, x):
        x = self.grouped(self.norm(self.first(x)).relu()).relu()
        x = self.depthwise(self.middle(x)).relu()
        return self.head(self.up(x).relu().flatten(1))
