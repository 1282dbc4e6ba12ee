"""A dynamic network in one file: weights as safetensors, and JSON in its header that rebuilds the branches.

Nothing in the file is ever executed.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...channels.channels import Channels
from ...networks.compact_header import is_made_by
from ...networks.storage import read_network, to_be_filled
from ...support import checked
from ...support.device import values_of
from ...support.files import misfit, write_tensors
from .branches import BRANCHES
from .model import DynamicModel

KEY = "depl0kit_dynamic"  # of the JSON in the header of the file
FORMAT = 1
FIELDS = {
    **{"format": int, "kind": str, "scope": str, "example": [int], "shares": [float]},
    "made_by": (None, dict),
}


@checked
def save_dynamic(net: DynamicModel, path: str | Path) -> Path:
    """Write a dynamic network to `path`, usually `name.safetensors`, atomically.

    Raises:
        OSError: the file cannot be written; an old file is kept.
    """
    header = {
        "format": FORMAT,
        "kind": net.kind,
        "scope": net.channels.scope,
        "example": list(net.channels.example_shapes[0]),
        "shares": [branch.share for branch in net.branches],
        "made_by": getattr(net.model, "made_by", None),
    }
    tensors = {name: values_of(tensor).contiguous() for name, tensor in net.state_dict().items()}
    write_tensors(Path(path), tensors, {KEY: json.dumps(header)})
    return Path(path)


@checked
def load_dynamic(path: str | Path, model: nn.Module | None = None) -> DynamicModel:
    """The network that `save_dynamic` wrote, in eval mode, on the CPU.

    Args:
        model: a new network of the same architecture, needed if `make_model` did not make the saved one. It
            is copied.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is damaged, not a file of `save_dynamic`, or has another architecture than `model`.
    """
    path, fresh, start = Path(path), model is None, "model."
    header, tensors = read_network(path, KEY, _checked, "save_dynamic(net, path)")
    inner = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
    model = to_be_filled(model, header["made_by"], inner, path)
    try:
        model.load_state_dict(inner, assign=fresh)  # a fresh one may be on "meta", without memory
        example = torch.zeros(1, *header["example"], dtype=next(model.parameters()).dtype)
        net = DynamicModel(Channels(model.eval(), example, header["scope"]), header["kind"])
        net.load_state_dict(tensors)
        net.set_share(header["shares"])
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} holds another architecture than {type(model).__name__}: {reason}"
        ) from error
    return net.eval()


def _checked(header: Any) -> dict[str, Any]:
    if wrong := misfit(header, FIELDS) or _unknown(header):
        raise ValueError(wrong)
    return header


def _unknown(header: dict[str, Any]) -> str:
    """What is outside its range in a header of the right form, in words."""
    good = {
        "format": header["format"] == FORMAT,
        "kind": header["kind"] in BRANCHES,
        "scope": header["scope"] in ("inner", "all"),
        "example": len(header["example"]) == 3 and all(0 < side < 2**15 for side in header["example"]),
        "shares": all(0 < share <= 1 for share in header["shares"]),
        "made_by": is_made_by(header["made_by"]),
    }
    return "".join(
        f"its field {name!r} is {header[name]!r}. " for name, is_good in good.items() if not is_good
    )
