"""A compact network in a file: weights as safetensors, and beside them JSON that rebuilds its shape.

One file holds both (safetensors has room for text in its header), so that they cannot be parted. Nothing
in it is ever executed: there is no pickle, and the JSON names only widths and three kinds of layers.
"""

import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from .arguments import checked
from .files import DamagedFileError, read_tensors, write_tensors
from .models import make_model

FORMAT = 1
KEY = "depl0kit"
WIDTHS = (
    *("in_channels", "out_channels", "groups", "in_features", "out_features"),
    *("num_features", "num_channels", "num_groups", "num_parameters"),
)
# what `compact` leaves in the place of a closed branch: modules without weights, and what makes them
STAND_INS = {
    "Identity": (nn.Identity, ()),
    "AvgPool2d": (nn.AvgPool2d, ("kernel_size", "stride", "padding")),
    "ConstantPad3d": (nn.ConstantPad3d, ("padding", "value")),
}


@checked
def save_compact(model: nn.Module, path: str | Path) -> Path:
    """Write a compact (or any plain) network to `path`, atomically.

    Args:
        model: what `compact` returned. If it stems from `make_model`, the file says so, and
            `load_compact(path)` needs nothing else.
        path: usually `name.safetensors`; an old file there is replaced when the new one is complete.

    Raises:
        OSError: the file cannot be written; an old one is still there.
    """
    path = Path(path)
    header = {
        "format": FORMAT,
        "made_by": getattr(model, "made_by", None),
        "widths": {name: widths for name, m in model.named_modules() if (widths := _widths(m))},
        "stand_ins": {name: spec for name, m in model.named_modules() if (spec := _stand_in(m))},
    }
    tensors = {key: t.detach().cpu().contiguous().clone() for key, t in model.state_dict().items()}
    write_tensors(path, tensors, {KEY: json.dumps(header)})
    return path


@checked
def load_compact(path: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The network that `save_compact` wrote, in eval mode, on the CPU.

    Args:
        model: a fresh network of the same architecture, with all channels, where the saved one does not
            stem from `make_model`. It is copied.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, not a file of `save_compact`, or of another architecture than `model`.
    """
    path = Path(path)
    header, tensors = _read(path)
    if model is None:
        if not header["made_by"]:
            raise ValueError(
                f"{path} holds a network that make_model did not make: pass model=, a fresh one of the "
                "same architecture with all channels."
            )
        model = make_model(**header["made_by"])
    model = copy.deepcopy(model)
    try:
        _reshape(model, header, tensors)
        model.load_state_dict(tensors)
    except (AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is of another architecture than {type(model).__name__}: {reason}"
        ) from error
    return model.eval()


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}: save_compact(model, path) writes one.")
    try:
        tensors, notes = read_tensors(path)
        header = json.loads(notes[KEY])
    except (DamagedFileError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or not a file of save_compact ({str(error) or type(error).__name__}): "
            "save it again."
        ) from error
    if header.get("format") != FORMAT:
        found = header.get("format")
        raise ValueError(f"{path} has format {found!r}, this version reads {FORMAT}: use a newer depl0kit.")
    return header, tensors


def _reshape(model: nn.Module, header: dict, tensors: dict[str, Tensor]) -> None:
    """Give `model` the modules and widths of the file; weights are filled in afterwards."""
    for name, spec in header["stand_ins"].items():
        if name and any(True for _ in model.get_submodule(name).parameters()):
            model.set_submodule(name, _build(spec))
    for name, widths in header["widths"].items():
        module = model.get_submodule(name)
        for attribute, width in widths.items():
            if attribute not in WIDTHS or not hasattr(module, attribute):
                raise AttributeError(f"{name} has no {attribute}")
            setattr(module, attribute, int(width))
        for key, old in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            new = tensors.get(f"{name}.{key}" if name else key)
            if new is not None and (new.shape, new.dtype) != (old.shape, old.dtype):
                empty = torch.empty_like(new)
                is_parameter = isinstance(old, nn.Parameter)
                setattr(module, key, nn.Parameter(empty) if is_parameter else empty)


def _widths(module: nn.Module) -> dict[str, int]:
    found = {name: getattr(module, name, None) for name in WIDTHS}
    return {name: width for name, width in found.items() if isinstance(width, int)}


def _stand_in(module: nn.Module) -> list[list] | None:
    """[kind, arguments...] of each module in a row, or None if it is not a stand-in."""
    row = list(module) if type(module) is nn.Sequential else [module]
    if not row or not all(type(m).__name__ in STAND_INS for m in row):
        return None
    return [[type(m).__name__, *(getattr(m, a) for a in STAND_INS[type(m).__name__][1])] for m in row]


def _build(spec: list[list]) -> nn.Module:
    row = []
    for kind, *arguments in spec:
        if kind not in STAND_INS:
            raise AttributeError(f"module {kind!r} is none that compact leaves behind")
        row.append(STAND_INS[kind][0](*(tuple(a) if isinstance(a, list) else a for a in arguments)))
    return row[0] if len(row) == 1 else nn.Sequential(*row)
