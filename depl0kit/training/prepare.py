"""Whether a network can learn a data set, found out before the first step."""

import torch
from torch import Tensor, nn

from ..channels.admission import first_line, short
from ..data.loading import Data
from ..support.device import values_of
from ..support.modes import eval_mode
from . import distributed, layout
from .classifier import NoClassifier, check_inputs, inside, logits_of
from .config import TrainConfig


def prepared(net: nn.Module, data: Data, config: TrainConfig) -> tuple[Data, layout.Trial]:
    """The data on the network's device, and what a trial step showed; it lays the weights as that says.

    Errors: those of `check_fit`, and a batch size that the processes of torchrun cannot share.
    """
    world = distributed.ranks().world
    if config.batch_size % world:
        raise ValueError(
            f"batch_size must be a multiple of the number of processes, {world}, got {config.batch_size}."
        )
    check_fit(net, data)
    layout.lay(net)
    return data.to(next(net.parameters()).device), layout.try_step(net, data.train.shape)


def check_fit(net: nn.Module, data: Data) -> None:
    """Refuse, before the first step, a network and data that do not suit each other.

    Args:
        net: with gates or without; its modes stay as they are.

    Raises:
        ValueError: there is only one class; a label is not a class of the data; the forward fails on images
            of this shape or needs others, too; its outputs are not logits, [batch, classes], in floating
            point.
    """
    if data.num_classes < 2:
        raise ValueError(
            f"the data have {data.num_classes} class: a classifier needs images of at least two classes."
        )
    for part in ("train", "val", "test"):
        _check_labels(getattr(data, part).labels, data.num_classes, part)
    check_inputs(net)
    device = next(net.parameters()).device
    images = torch.zeros(1, data.in_channels, *data.image_size, device=device)
    name = type(inside(net)).__name__
    try:
        with eval_mode(net), torch.no_grad():
            logits = logits_of(net(images), net)
    except NoClassifier:
        raise
    except Exception as error:  # of any kind: it is the user's network that fails
        raise ValueError(_why_unread(net, name, images, error)) from error
    _check_logits(logits, name, data.num_classes)


def _check_labels(labels: Tensor, classes: int, part: str) -> None:
    if labels.dtype not in (torch.int64, torch.uint8) or labels.dim() != 1:
        raise ValueError(
            f"labels of data.{part} must be one int64 number per image, got {short(labels.dtype)} of shape "
            f"{tuple(labels.shape)}: use .argmax(1) on one-hot labels, then .long()."
        )
    low, high = values_of(torch.stack(labels.aminmax())).tolist() if len(labels) else (0, 0)
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels of data.{part} must lie in 0..{classes - 1}, as the data have {classes} classes, got "
            f"{low if low < 0 else high}: number the classes from 0."
        )


def _why_unread(net: nn.Module, name: str, images: Tensor, error: Exception) -> str:
    text = f"the forward of {name} failed on an image of the data, float32 {tuple(images.shape)}: "
    text += first_line(error)
    other = next((short(p.dtype) for p in net.parameters() if p.dtype != images.dtype), None)
    if other is None:
        return text
    return f"{text}; its weights are {other}: call net.float()."


def _check_logits(logits: Tensor, name: str, classes: int) -> None:
    wanted = f"must return logits, [batch, {classes}] in floating point"
    if not logits.is_floating_point():
        raise ValueError(f"{name} {wanted}, got {short(logits.dtype)}: leave out the argmax.")
    shape = f"{name} {wanted}, got the shape {tuple(logits.shape)} for one image"
    if logits.dim() != 2 or len(logits) != 1:
        raise ValueError(f"{shape}: flatten the outputs, as by .flatten(1).")
    if logits.shape[1] < classes:
        raise ValueError(f"{shape}: give its last layer an output for each of the {classes} classes.")
