"""The networks by name, and weights from files."""

import pytest
import torch
import torchvision
from marks import slow_but_the_first
from safetensors.torch import save_file

import depl0kit as dk


@pytest.mark.parametrize(("name", "layers", "params"), [("resnet20", 20, 272_474), ("resnet56", 56, 855_770)])
def test_cifar_resnets_have_the_sizes_of_the_paper(name, layers, params):
    # He et al. 2016, table 6: 0.27 M and 0.85 M parameters, with shortcuts that have none
    model = dk.make_model(name)
    weighted = [
        n
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.Linear) and "shortcut" not in n
    ]
    shortcuts = sum(p.numel() for n, p in model.named_parameters() if "shortcut" in n)
    assert len(weighted) == layers
    assert sum(p.numel() for p in model.parameters()) == params
    assert shortcuts == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_resnets_read_grey_images_too():
    assert dk.make_model("resnet20", 1, 7)(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet50", "googlenet", "mobilenet_v2"])
def test_torchvision_by_name(name):
    model = dk.make_model(name, classes=7).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("resnett50",), r"unknown model 'resnett50': .* Did you mean 'resnet50'"),
        (("vgg",), r"choose one of 'small', 'medium', 'lenet'"),
        ((7,), r"name must be text, got 7"),
        (("resnet50", 1), r"resnet50 of torchvision reads 3 channels, got in_channels=1"),
        (("vgg16", 3, 10, (16, 16)), r"at least 32x32"),
    ],
)
def test_bad_names_and_shapes(arguments, says):
    with pytest.raises(ValueError, match=says) as caught:
        dk.make_model(*arguments)
    assert len(str(caught.value)) < 300  # eighty names would hide the message


@pytest.mark.parametrize("form", slow_but_the_first(["safetensors", "pth"]))
def test_a_dense_network_loads_into_a_gated_one(form, tmp_path):
    torch.manual_seed(0)
    dense = torchvision.models.resnet18(num_classes=5).eval()
    path = tmp_path / f"weights.{form}"
    save_file(dense.state_dict(), path) if form == "safetensors" else torch.save(dense.state_dict(), path)
    x = torch.randn(2, 3, 64, 64)
    net = dk.GatedModel(dk.make_model("resnet18", classes=5, weights=path), example=x).eval()
    open_gates = [torch.ones(g.channels) for g in net.groups.gated]
    with torch.no_grad():
        torch.testing.assert_close(net.forward_gated(x, open_gates), dense(x))


@pytest.mark.slow
def test_weights_with_auxiliary_heads_load_without_them(tmp_path):
    full = torchvision.models.googlenet(weights=None, num_classes=4, aux_logits=True, init_weights=True)
    torch.save(full.state_dict(), tmp_path / "googlenet.pth")
    model = dk.make_model("googlenet", classes=4, weights=tmp_path / "googlenet.pth").eval()
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(x), full.eval()(x))


@pytest.mark.parametrize(
    ("form", "wrapped"),
    [
        ("pth", lambda state: {"state_dict": state, "epoch": 3}),
        ("pth", lambda state: {"model_state_dict": state, "loss": 0.5}),
        ("pth", lambda state: {"model": state}),
        *(
            (form, lambda state: {f"module.{k}": t for k, t in state.items()})
            for form in ("pth", "safetensors")
        ),
        *(
            (form, lambda state: {f"_orig_mod.{k}": t for k, t in state.items()})
            for form in ("pth", "safetensors")
        ),
        ("pth", lambda state: {"state_dict": {f"module._orig_mod.{k}": t for k, t in state.items()}}),
    ],
)
def test_weights_of_wrapped_networks_and_of_checkpoints(form, wrapped, tmp_path):
    torch.manual_seed(0)
    dense, path = dk.make_model("small", 1), tmp_path / f"weights.{form}"
    content = wrapped(dense.state_dict())
    save_file(content, path) if form == "safetensors" else torch.save(content, path)
    loaded = dk.make_model("small", 1, weights=path)
    assert all(torch.equal(t, loaded.state_dict()[k]) for k, t in dense.state_dict().items())


@pytest.mark.parametrize(
    "content", [{"state_dict": {"a": 3}}, {"epoch": 3}, [1, 2], torch.zeros(3), {"a": [1]}, {1: 2}]
)
def test_files_without_weights_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(
        ValueError, match=r"weights\.pth must hold a state_dict with only tensors in it, .* writes it: ."
    ):
        dk.make_model("small", 1, weights=tmp_path / "weights.pth")


def save_other(path):
    """Names of layers that LeNet does not have, and none of a wrong shape."""
    state = dk.make_model("small", 1, 10).state_dict()
    save_file({k: t for k, t in state.items() if not k.startswith(("features.0", "features.3"))}, path)
    return path


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(
        FileNotFoundError, match=r"Download torchvision's weights from https://.*resnet50.*pth"
    ):
        dk.make_model("resnet50", weights=path)
    with pytest.raises(FileNotFoundError, match="save_file"):
        dk.make_model("small", weights=path)
    save_file(dk.make_model("small", 1, 10).state_dict(), path)
    with pytest.raises(
        ValueError, match=r"classifier.bias has shape \(10,\) there and \(3,\)|classifier.weight"
    ):
        dk.make_model("small", 1, 3, weights=path)
    with pytest.raises(ValueError, match=r"another network than 'lenet': features.* missing, features"):
        dk.make_model("lenet", 1, 10, (28, 28), weights=save_other(path))
    path.write_bytes(b"not a file of weights")
    with pytest.raises(ValueError, match="must hold a state_dict with only tensors in it"):
        dk.make_model("small", weights=path)
