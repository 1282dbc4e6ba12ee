"""One experiment: which network, data set, posterior, price and settings."""

from dataclasses import dataclass, field, fields, replace

import torch

from ...data.loading import Data, load_data
from ...gates.gated import GatedModel
from ...gates.posterior import INITS
from ...gates.posteriors import POSTERIORS
from ...networks.models import make_model
from ...support import checks
from ..config import TrainConfig

CHOICES = {
    "posterior": tuple(POSTERIORS),
    "init": INITS,
    "scope": ("inner", "all"),
    "sampling": ("example", "batch"),
}


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Args:
        description: One sentence.
        model: A name that `make_model` knows.
        data: A name that `load_data` knows, or a folder of images.
        size: Side of a folder's images in pixels, see `load_data`; None leaves them as they are.
        skip_damaged: Leave out images of a folder that cannot be read, with a warning.
        posterior: "mean_field" (L0-HC), "forward" or "backward" (Dep-L0), "autoregressive", "arm" (L0-ARM).
        init: Where gates start: "equal", all at the same P(open), or "paper".
        scope: "inner" gates the channels inside blocks, "all" also those of residual streams.
        sampling: Gates are drawn for each "example" or once a "batch".
        weights: File of a dense network to start from, see `make_model`; None starts at random.
        lam_per_weight: Instead of `lam`, the papers' lambda, >= 0: the price of one parameter.
        train: Settings of the training.

    Raises:
        ValueError: a setting outside its range, or lam_per_weight with a cost that is not "params".
    """

    description: str
    model: str
    data: str
    size: int | None = None
    skip_damaged: bool = False
    posterior: str = "mean_field"
    init: str = "equal"
    scope: str = "inner"
    sampling: str = "example"
    weights: str | None = None
    lam_per_weight: float | None = None
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            checks.one_of(name, getattr(self, name), allowed)
        if self.size is not None:
            checks.whole("size", self.size, 1)
        if self.lam_per_weight is not None:
            checks.number("lam_per_weight", self.lam_per_weight, 0)
            if self.train.cost != "params":
                raise ValueError(
                    f"lam_per_weight is the price of a parameter, got cost={self.train.cost!r}: set "
                    'cost="params", or set lam instead, the price of the whole network.'
                )

    def network(self, in_channels: int, classes: int, image_size: tuple[int, int]) -> GatedModel:
        """The network with its gates, on the CPU; the same at every call, because it sets torch's seed."""
        torch.manual_seed(self.train.seed)
        model = make_model(self.model, in_channels, classes, image_size, self.weights)
        example = torch.zeros(1, in_channels, *image_size)
        net = GatedModel(model, self.posterior, example, self.scope, self.sampling)
        if self.init != "equal":  # a posterior by name starts equal
            sizes, may_close = net.channels.sizes, net.channels.may_close
            net.posterior = POSTERIORS[self.posterior](sizes, init=self.init, may_close=may_close)
        return net

    def config(self, net: GatedModel) -> TrainConfig:
        """Settings with the price of `net` as `lam`.

        `TrainConfig.lam` multiplies the expected parameters as a share of *all* parameters of the dense
        network (`GatedModel.dense_cost`). So lam = lam_per_weight x dense parameters is the exact
        conversion: every parameter that is removed saves lam_per_weight. Parameters that no gate
        reaches (the stem of a ResNet) add a constant, which changes no gradient.
        """
        if self.lam_per_weight is None:
            return self.train
        return replace(self.train, lam=self.lam_per_weight * net.dense_cost.params)

    def build(self, device: torch.device | str = "cpu") -> tuple[GatedModel, Data, TrainConfig]:
        """What `train` takes: the network on `device`, the data, and the final settings.

        Raises:
            DataNotFoundError: the data set is not on this machine and cannot be downloaded.
            ValueError: the network does not suit the images, or the weights are of another network.
            FileNotFoundError: the file of weights does not exist.
        """
        data = load_data(self.data, size=self.size, skip_damaged=self.skip_damaged)
        net = self.network(data.in_channels, data.num_classes, data.image_size)
        return net.to(device), data, self.config(net)


RECIPE_FIELDS = {f.name: f.type for f in fields(Recipe) if f.name != "train"}
TRAIN_FIELDS = {f.name: f.type for f in fields(TrainConfig)}
