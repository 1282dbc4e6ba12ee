"""What training and evaluation ask of a network: it reads one batch of images and returns logits."""

from torch import Tensor, nn

from ..channels.tracing import required_arguments
from ..gates.gated import GatedModel

ONLY = "train, fine_tune and evaluate are for classifiers"


class NoClassifier(ValueError):
    """A network that cannot be trained here, whatever it is good for."""


def check_inputs(net: nn.Module) -> None:
    """Raise NoClassifier if the forward needs more than one input."""
    model = inside(net)
    names = required_arguments(model)
    if len(names) > 1:
        raise NoClassifier(
            f"{type(model).__name__} takes {len(names)} inputs ({', '.join(names)}): {ONLY}, which read one "
            "batch of images. Train it in a loop of your own, with net.expected_share() as the price."
        )


def logits_of(outputs: object, net: nn.Module) -> Tensor:
    """`outputs`, if they are one tensor.

    Raises:
        NoClassifier: they are a tuple, a dict or anything else.
    """
    if isinstance(outputs, Tensor):
        return outputs
    name, mode = type(inside(net)).__name__, " in training mode" if net.training else ""
    raise NoClassifier(
        f"{name} must return logits, [batch, classes] in floating point{mode}, got "
        f"{type(outputs).__name__}: wrap it in a module that does, as {ONLY}."
    )


def inside(net: nn.Module) -> nn.Module:
    """The network without its gates, by whose class errors name it."""
    return net.model if isinstance(net, GatedModel) else net
