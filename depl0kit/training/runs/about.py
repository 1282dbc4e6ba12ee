"""What a run is, in plain values: network, data and settings (config.json), and the machine."""

import json
import platform
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from ...data.loading import Data
from ...gates.gated import GatedModel
from ...gates.posteriors import described_now
from ...support.files import DamagedFileError, different_field, misfit, read_json, write_json
from ...support.versions import version, versions
from .. import distributed
from ..config import LATER, TrainConfig

FORMAT = 1
# What config.json holds at least, in the words of `misfit`: it may have been edited, or copied in part.
SIZES = {"classes": int, "train": int, "val": int, "test": int}
POSTERIOR = {
    "family?": str,
    "direction?": str,
    "test_rule?": str,
    "condition_on?": str,
}  # condition_on: see `described_now`
ABOUT = {
    "net": {
        "network": str, "groups": [list], "posterior": POSTERIOR, "made_by": (dict, None), "example": [int],
    },
    "data": {"name": str, **SIZES},
    "train": dict,
}  # fmt: skip
# newer code may resume an old run; the temperature of a network that was trained may have moved
IGNORED = ("version", "net.posterior.hard_concrete.temperature")


def about(net: GatedModel, data: Data, config: TrainConfig) -> dict[str, Any]:
    """What is trained, on what data, and how, as plain values."""
    sizes = {name: len(getattr(data, name)) for name in ("train", "val", "test")}
    # with numbers for warmup and ramp: later versions may have other defaults
    numbers = {"warmup": config.warmup_epochs, "ramp": config.ramp_epochs}
    return {
        "version": version(),
        "net": net.describe(),
        "data": {"name": data.name, "classes": data.num_classes, **sizes},
        "train": asdict(config) | numbers,
    }


def environment(device: torch.device) -> dict[str, Any]:
    """This session of training: when, where, with which versions, by which command."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "processes": distributed.ranks().world,
        **versions(device),
    }


def read_config(config: Path) -> tuple[dict[str, Any], TrainConfig]:
    """What a config.json holds, as this version would write it, and its settings; see `RunFolder.about`."""
    try:
        content = read_json(config)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no run in {config.parent}: it has no {config.name}.") from None
    except DamagedFileError as error:
        raise ValueError(str(error)) from error
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{config.parent} was written by depl0kit {content.get('version')} in format "
            f"{content.get('format')}; this version reads format {FORMAT}."
        )
    if wrong := misfit(content, ABOUT) or _wrong_groups(content["net"]["groups"]):
        raise ValueError(f"{config} is damaged: {wrong}.")
    content["train"] = LATER | content["train"]
    content["net"]["posterior"] = described_now(content["net"]["posterior"])
    return content, _settings(config, content["train"])


def write_config(config: Path, about: Mapping[str, Any]) -> None:
    """Note what is trained (see `about`), or refuse if it differs from what the file says."""
    new = json.loads(json.dumps({"format": FORMAT, **about}))
    if not config.exists():
        write_json(config, new)
        return
    old, _ = read_config(config)
    if difference := different_field(old, new, IGNORED):
        key, before, now = difference
        raise ValueError(
            f"{config.parent} holds a run with {key} = {before!r}, not {now!r}: use the same settings to "
            "resume it, or another folder."
        )


def _wrong_groups(groups: list[list]) -> str:
    """What is wrong with the groups of a config.json, each [name, channels]; "" if all is well."""
    for group in groups:
        if len(group) != 2 or misfit(group[0], str) or misfit(group[1], int) or group[1] < 1:
            return f"expected a group to be a name and its channels, found {group!r}"
    return ""


def _settings(config: Path, train: dict[str, Any]) -> TrainConfig:
    unknown = train.keys() - {f.name for f in fields(TrainConfig)}
    if unknown:
        raise ValueError(
            f"{config} has a setting that this version of depl0kit does not know, {min(unknown)!r}: "
            "install the version that wrote it, or a newer one."
        )
    try:
        return TrainConfig(**train)
    except ValueError as error:
        raise ValueError(f"{config} is damaged: {error}") from error
