"""Compact files with any content and a right checksum: a sentence that names the file, or a sound network."""

import copy
import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_storage import shrunk
from torch import nn

import depl0kit as dk
from depl0kit.networks import storage
from depl0kit.networks.factorised import factorised
from depl0kit.support.files import read_tensors, write_tensors

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.sampled_from([2**31, 10**30, -(2**63)])
    | st.floats()
    | st.sampled_from(["", "conv", "classifier", "small", "vgg16", "resnet50", "\x00", "Linear", "AvgPool2d"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)

IN_TWO = "blocks.4.conv1"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A file with a closed branch and a layer in two; its tensors, header, an input and the right output."""
    model, x = shrunk("resnet20", (3, 32, 32))
    layer = model.get_submodule(IN_TWO)
    rows, columns = layer.weight.flatten(1).shape
    model.set_submodule(IN_TWO, factorised(layer, torch.randn(rows, 2), torch.randn(2, columns)))
    path = dk.save_compact(model, tmp_path_factory.mktemp("sound") / "net.safetensors")
    tensors, notes = read_tensors(path)
    with torch.no_grad():
        return path, tensors, json.loads(notes[storage.KEY]), x, model(x)


def places(content, path=()):
    """Paths of all values inside."""
    yield path
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield from places(content[key], (*path, key))


def changed(header, path, value, remove):
    """A copy of the header, in which one value is another, or gone."""
    if not path:
        return value
    header = copy.deepcopy(header)
    inside = header
    for key in path[:-1]:
        inside = inside[key]
    if remove:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return header


def loaded_or_refused(path):
    """The network, or None if a sentence that names the file refuses it."""
    try:
        return dk.load_compact(path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 400 + len(str(path))
        return None


@settings(max_examples=3 * settings.default.max_examples)
@given(st.data())
def test_a_header_with_a_changed_value_is_refused_or_harmless(sound, data):
    path, tensors, header, x, right = sound
    place = data.draw(st.sampled_from(sorted(places(header), key=lambda p: (len(p), str(p)))))
    # of equal weight, or the many widths would leave no example for the few other fields
    fields = [(), ("format",), ("made_by",), ("widths",), ("stand_ins",), ("factorised",)]
    field = data.draw(st.sampled_from(fields))
    if place[:1] != field[:1]:
        place = data.draw(st.sampled_from([p for p in places(header) if p[:1] == field[:1]]))
    value, remove = data.draw(JSON), data.draw(st.booleans())
    write_tensors(path, tensors, {storage.KEY: json.dumps(changed(header, place, value, remove))})
    if (network := loaded_or_refused(path)) is not None:
        with torch.no_grad():
            torch.testing.assert_close(network(x), right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("made_by", "classes"), 10**9),
        (("made_by", "classes"), 0),
        (("made_by", "classes"), True),
        (("made_by", "in_channels"), 2**31 - 1),
        (("made_by", "image_size"), [32]),
        (("made_by", "name"), "resnet21"),
        (("made_by", "name"), ["small"]),
        (("made_by", "name"), "densenet121"),
        (("made_by", "weights"), "/etc/passwd"),
        (("made_by",), []),
        (("made_by",), None),
        (("widths", "conv", "groups"), 0),
        (("widths", "conv", "groups"), -1),
        (("widths", "conv", "in_channels"), 2.0),
        (("widths", "conv"), [3]),
        (("widths", "bn", "num_features"), 9),
        (("widths",), {}),
        (("stand_ins",), {}),
        (("stand_ins", "blocks.0.conv1"), [["AvgPool2d", 0, 1, 0]]),
        (("stand_ins", "blocks.0.conv1"), [["AvgPool2d", 3, 1]]),
        (("stand_ins", "blocks.0.conv1"), [[]]),
        (("stand_ins", "blocks.0.conv1"), [["AvgPool2d", 3, 2, 1]]),
        (("stand_ins", "blocks.0.conv2"), [["Identity"]]),
        (("factorised",), {}),
        (("factorised",), None),
        (("factorised",), [IN_TWO]),
        (("factorised", IN_TWO), 0),
        (("factorised", IN_TWO), -1),
        (("factorised", IN_TWO), True),
        (("factorised", IN_TWO), 2.0),
        (("factorised", IN_TWO), "2"),
        (("factorised", IN_TWO), [2]),
        (("factorised", IN_TWO), 33),
        (("factorised", IN_TWO), 10**30),
        (("factorised",), {IN_TWO: 2, "nowhere": 2}),
        (("factorised",), {IN_TWO: 2, "": 2}),
        (("factorised",), {IN_TWO: 2, "bn": 2}),
        (("factorised",), {IN_TWO: 2, "conv": 2}),
        (("factorised",), {IN_TWO: 2, f"{IN_TWO}.0": 2}),
        (("format",), "1"),
    ],
)
def test_malformed_fields_are_refused(sound, place, value):
    path, tensors, header, *_ = sound
    write_tensors(path, tensors, {storage.KEY: json.dumps(changed(header, place, value, False))})
    assert loaded_or_refused(path) is None


@pytest.mark.parametrize("text", ["", "null", "3", "[" * 10**5, "{", '{"format": 1}', '"\\ud800"', "NaN"])
def test_text_that_is_no_header_is_refused(sound, text):
    path, tensors, *_ = sound
    write_tensors(path, tensors, {storage.KEY: text})
    assert loaded_or_refused(path) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[..., :-1],
        lambda t: t.flatten(),
        lambda t: t.to(torch.int32),
        lambda t: t.to(torch.complex64),
        lambda t: torch.zeros(()),
        lambda t: torch.zeros(0),
        lambda t: None,
    ],
)
@pytest.mark.parametrize("key", ["conv.weight", "bn.running_mean", "bn.bias", "classifier.weight"])
def test_tensors_of_another_form_are_refused(sound, key, change):
    path, tensors, header, *_ = sound
    tensors = dict(tensors)
    new = change(tensors.pop(key))
    if new is not None:
        if new.shape == sound[1][key].shape and new.dtype == sound[1][key].dtype:
            return  # flatten leaves a vector as it is
        tensors[key] = new
    write_tensors(path, tensors, {storage.KEY: json.dumps(header)})
    assert loaded_or_refused(path) is None


@given(at=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(tmp_path_factory, sound, at, bit):
    _, tensors, header, *_ = sound
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    write_tensors(path, tensors, {storage.KEY: json.dumps(header)})
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << bit
    path.write_bytes(content)
    assert loaded_or_refused(path) is None
    os.remove(path)


def test_a_header_cannot_reach_modules_of_the_users_network(tmp_path):
    """What is set are widths of layers, and what is replaced are layers with weights."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    path = dk.save_compact(model, tmp_path / "own.safetensors")
    tensors, notes = read_tensors(path)
    header = json.loads(notes[storage.KEY])
    header["widths"]["1"] = {"inplace": 1}
    write_tensors(path, tensors, {storage.KEY: json.dumps(header)})
    with pytest.raises(ValueError, match="1 has no inplace"):
        dk.load_compact(path, model)
    with pytest.raises(ValueError, match=r"model must be a network \(an nn\.Module\), got 'small'"):
        dk.load_compact(path, "small")
