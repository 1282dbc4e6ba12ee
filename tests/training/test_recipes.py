"""Recipes: what they say, how they are read, and what the papers' lambda becomes."""

import itertools
import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from marks import slow_but_the_first

import depl0kit as dk
from depl0kit.gates.posteriors import POSTERIORS
from depl0kit.training.config import TrainConfig
from depl0kit.training.recipes import Recipe, load_recipe, recipe_names
from depl0kit.training.recipes import recipe as recipe_module
from depl0kit.training.recipes.reading import HERE

SIZES = {
    "digits": (1, 10, (8, 8)),
    "fashion_mnist": (1, 10, (28, 28)),
    "cifar10": (3, 10, (32, 32)),
    "cifar100": (3, 100, (32, 32)),
    "imagenet": (3, 1000, (224, 224)),
}
LARGE = ("vgg16-cifar10", "vgg16-cifar100", "resnet56-cifar10", "resnet56-cifar100", "resnet50-imagenet")
SMALL = ("small-digits", "small-digits-budget", "small-fashion", "small-cifar10", "lenet-fashion")
PAPERS = {  # lambda per weight: mean-field, forward, backward
    "vgg16-cifar10": (5e-7, 1e-6, 1e-6),
    "vgg16-cifar100": (5e-7, 1e-6, 1e-6),
    "resnet56-cifar10": (5e-7, 5e-7, 1e-6),
    "resnet56-cifar100": (5e-7, 5e-7, 1e-6),
    "resnet50-imagenet": (5e-9, 5e-9, 5e-9),
}


def network(recipe: Recipe) -> dk.GatedModel:
    """The recipe's network, for images of the sizes of its data set, without that data set."""
    return recipe.network(*SIZES[recipe.data])


# ---- the recipes of the package


def test_every_experiment_comes_in_three_sizes():
    assert set(recipe_names()) == {*SMALL, *(name + end for name in LARGE for end in ("", "-fast", "-cpu"))}


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_recipes_parse(name, posterior):
    recipe = load_recipe(name, posterior=posterior)
    assert recipe.posterior == posterior
    assert recipe.data in SIZES and recipe.model == name.split("-")[0]
    assert (recipe.train.budget is not None) == ("budget" in name)
    warm = recipe.train.warmup_epochs + recipe.train.ramp_epochs
    assert warm < recipe.train.epochs / 2, "most of the training at the full price"


@pytest.mark.parametrize("name", SMALL)
def test_networks_are_built(name):
    net = network(load_recipe(name))
    assert net.groups.gated


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_networks_are_built_for_every_posterior(name):
    recipes = [load_recipe(name, posterior=posterior) for posterior in POSTERIORS]
    for recipe in (*recipes, load_recipe(f"{name}-fast"), load_recipe(f"{name}-cpu")):
        assert network(recipe).groups.gated


@pytest.mark.parametrize("name", PAPERS)
def test_paper_recipes_are_those_of_the_paper(name):
    prices = [load_recipe(name, posterior=p).lam_per_weight for p in ("mean_field", "forward", "backward")]
    assert tuple(prices) == PAPERS[name]
    recipe = load_recipe(name)
    train = recipe.train
    assert (recipe.scope, recipe.init, train.gate_lr, train.gate_schedule) == (
        "inner",
        "paper",
        1e-3,
        "constant",
    )
    assert (train.schedule, train.momentum, train.warmup, train.ramp) == ("steps", 0.9, 0, 0)
    assert train.augment and train.cost == "params"
    if "imagenet" in name:
        expected = (90, 10, 256, 1e-4, 0.1, 0.1, (30, 60))
    else:
        rates = (0.05, 0.2) if "vgg" in name else (0.1, 0.1)
        expected = (300, 0, 128, 5e-4, *rates, (60, 120, 180, 240))
    names = ("epochs", "fine_tune_epochs", "batch_size", "weight_decay", "lr", "decay", "milestones")
    assert tuple(getattr(train, n) for n in names) == expected


@pytest.mark.parametrize("name", LARGE)
def test_fast_recipes(name):
    recipe, train = load_recipe(f"{name}-fast"), load_recipe(f"{name}-fast").train
    assert recipe.init == "equal" and train.gate_lr is None and train.schedule == "one_cycle"
    assert train.precision == "bfloat16" and train.compile and train.batch_size >= 512
    assert train.all_epochs == (20 if "imagenet" in name else 40)
    assert recipe.lam_per_weight == load_recipe(name).lam_per_weight


def test_build_gives_what_train_takes():
    net, data, config = load_recipe("small-digits", epochs=1).build("cpu")
    assert data.name == "digits" and config.epochs == 1 and config.lam == 16
    again, _, _ = load_recipe("small-digits").build()
    for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    other = network(load_recipe("small-digits", seed=1))
    assert not torch.equal(net.model.classifier.weight, other.model.classifier.weight)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_gates_start_as_the_recipe_says(posterior):
    recipe = load_recipe("small-digits", posterior=posterior)
    equal, paper = network(recipe), network(replace(recipe, init="paper"))
    assert equal.posterior.flat_log_alpha().std().item() < 1e-5
    assert paper.posterior.flat_log_alpha().std().item() > 5e-3
    assert type(paper.posterior) is type(equal.posterior)
    assert paper.posterior.may_close == equal.posterior.may_close


# ---- the papers' lambda


def parameters_of_vgg16(classes: int) -> int:
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))
    return convolutions + 2 * sum(widths[1:]) + 512 * classes + classes


@pytest.mark.slow
def test_lambda_of_vgg16_by_hand():
    recipe = load_recipe("vgg16-cifar10")
    lam = recipe.config(network(recipe)).lam
    assert lam == pytest.approx(1e-6 * parameters_of_vgg16(10), rel=1e-12)
    assert lam == pytest.approx(14.7, abs=0.05)
    recipe = load_recipe("vgg16-cifar100", posterior="mean_field")
    assert recipe.config(network(recipe)).lam == pytest.approx(5e-7 * parameters_of_vgg16(100), rel=1e-12)


@pytest.mark.parametrize("model", slow_but_the_first(["vgg16-cifar10", "resnet56-cifar10"]))
def test_a_parameter_that_goes_saves_lam_per_weight(model):
    """The one meaning of the papers' lambda; what no gate reaches costs the same before and after."""
    recipe = load_recipe(model)
    net = network(recipe)
    config = recipe.config(net)
    probs = torch.ones(sum(net.posterior.sizes), dtype=torch.float64)
    before = config.lam * net.expected_share(config.cost, probs[None])
    probs[:5] = 0
    after = config.lam * net.expected_share(config.cost, probs[None])
    widths = [int(p.sum()) for p in net.posterior.split(probs)]
    removed = net.dense_cost.params - net.channels.cost(widths).params
    assert removed > 0
    assert float(before - after) == pytest.approx(recipe.lam_per_weight * removed, rel=1e-6)


def test_a_price_of_the_network_stays_as_it_is():
    recipe = load_recipe("small-digits")
    assert recipe.config(network(recipe)) == recipe.train


# ---- one price


@pytest.mark.parametrize(
    ("name", "settings", "lam", "budget", "per_weight", "cost"),
    [
        ("vgg16-cifar10", {"lam": 3}, 3, None, None, "params"),
        ("vgg16-cifar10", {"budget": 0.5, "posterior": "mean_field"}, 4, 0.5, None, "params"),
        ("vgg16-cifar10", {"lam_per_weight": 2e-6, "posterior": "mean_field"}, 4, None, 2e-6, "params"),
        ("small-digits", {"budget": 0.4}, 4, 0.4, None, "macs"),
        ("small-digits-budget", {"lam": 3}, 3, None, None, "macs"),
        ("small-digits", {"lam_per_weight": 1e-4}, 4, None, 1e-4, "params"),
    ],
)
def test_a_price_takes_back_the_one_before(name, settings, lam, budget, per_weight, cost):
    recipe = load_recipe(name, **settings)
    assert (recipe.train.lam, recipe.train.budget, recipe.lam_per_weight) == (lam, budget, per_weight)
    assert recipe.train.cost == cost


def test_a_price_in_a_file_takes_back_those_of_posteriors_too(tmp_path):
    file = write(tmp_path, 'extends = "vgg16-cifar10"\n[train]\nlam = 2')
    recipe = load_recipe(file, posterior="mean_field")
    assert recipe.train.lam == 2 and recipe.lam_per_weight is None


# ---- files of one's own


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_a_copy_of_a_recipe_is_the_same_recipe(name, tmp_path):
    copy = write(tmp_path, (HERE / f"{name}.toml").read_text())
    for posterior in POSTERIORS:
        assert load_recipe(copy, posterior=posterior) == load_recipe(name, posterior=posterior)


def as_toml(values: dict) -> str:
    """Plain values as TOML; None has no word there."""

    def word(value):
        if isinstance(value, bool):
            return str(value).lower()
        return (
            f'"{value}"'
            if isinstance(value, str)
            else repr(list(value) if isinstance(value, tuple) else value)
        )

    return "\n".join(f"{name} = {word(value)}" for name, value in values.items() if value is not None)


CONFIGS = st.builds(
    TrainConfig,
    lam=st.floats(0, 100),
    epochs=st.integers(1, 500),
    lr=st.floats(0, 1),
    gate_lr=st.none() | st.floats(0, 1),
    warmup=st.floats(0, 10) | st.integers(0, 10),
    schedule=st.just("steps"),
    milestones=st.lists(st.integers(0, 300), max_size=3).map(tuple),
    augment=st.booleans(),
)


@given(CONFIGS)
def test_settings_survive_toml(tmp_path_factory, config):
    text = 'description = "x"\nmodel = "small"\ndata = "digits"\n[train]\n' + as_toml(asdict(config))
    assert tomllib.loads(text)
    assert load_recipe(write(tmp_path_factory.mktemp("recipe"), text)).train == config


def test_a_file_may_extend_another_file(tmp_path):
    write(tmp_path, 'extends = "resnet56-cifar10"\nscope = "all"', "one.toml")
    recipe = load_recipe(write(tmp_path, 'extends = "one.toml"\n[train]\nepochs = 7', "two.toml"))
    assert (recipe.model, recipe.scope, recipe.train.epochs, recipe.train.lr) == ("resnet56", "all", 7, 0.1)


def test_what_a_posterior_changes(tmp_path):
    text = (
        'extends = "small-digits"\n[posteriors.forward]\nscope = "all"\n[posteriors.forward.train]\nlam = 2'
    )
    file = write(tmp_path, text)
    assert (load_recipe(file).scope, load_recipe(file).train.lam) == ("inner", 16)
    recipe = load_recipe(file, posterior="forward")
    assert (recipe.scope, recipe.train.lam) == ("all", 2)
    assert load_recipe(file, posterior="forward", lam=5).train.lam == 5


def test_damaged_images_are_left_out_where_a_recipe_says_so(tmp_path, monkeypatch):
    text = 'description = "x"\nmodel = "small"\ndata = "/a/pets"\nsize = 9\nskip_damaged = true\n'
    assert load_recipe(write(tmp_path, text)).skip_damaged
    assert not load_recipe("small-digits").skip_damaged
    assert load_recipe("small-digits", skip_damaged=True).skip_damaged
    seen = []

    def refuse(name, **options):
        seen.append((name, options))
        raise ValueError("that is enough")

    monkeypatch.setattr(recipe_module, "load_data", refuse)
    with pytest.raises(ValueError, match="enough"):
        load_recipe(write(tmp_path, text)).build()
    assert seen == [("/a/pets", {"size": 9, "skip_damaged": True})]


# ---- what goes wrong


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('modle = "small"', ["unknown key 'modle'", "'model'", "Did you mean 'model'?"]),
        ("[train]\nepoch = 3", ["unknown key in [train] 'epoch'", "Did you mean 'epochs'?"]),
        ('[train]\nepochs = "ten"', ["epochs must be a whole number, got 'ten'"]),
        ("[train]\nepochs = 2.5", ["epochs must be a whole number, got 2.5"]),
        ("[train]\naugment = 1", ["augment must be true or false, got 1"]),
        ("[train]\nlr = true", ["lr must be a number, got True"]),
        ("[train]\nmilestones = 3", ["milestones must be a list of numbers, got 3"]),
        ("model = 3", ["model must be text, got 3"]),
        ("train = 3", ["train must be a table, got 3"]),
        ("posteriors = 3", ["posteriors must be a table, got 3"]),
        ("posteriors.forward = 3", ["forward must be a table, got 3"]),
        ("[posteriors.foward]\nscope = 'all'", ["'foward'", "Did you mean 'forward'?"]),
        ("[posteriors.forward]\nposterior = 'backward'", ["unknown key for forward 'posterior'"]),
        ("lam = 3", ["unknown key 'lam'"]),
        ("lam_per_weight = 1e-6\n[train]\nbudget = 0.3", ["one price, got budget and lam_per_weight"]),
        ("lam_per_weight = 1e-6\n[train]\ncost = 'macs'", ["lam_per_weight is the price of a parameter"]),
        ("lam_per_weight = -1", ["lam_per_weight must be a number in [0, inf), got -1"]),
        ("scope = 'outer'", ["unknown scope 'outer'"]),
        ("skip_damaged = 1", ["skip_damaged must be true or false, got 1"]),
        ("size = 0", ["size must be a whole number of at least 1, got 0"]),
        ("model = ", ["is not TOML"]),
    ],
)
def test_mistakes_in_a_file(text, says, tmp_path):
    start = "" if text.startswith(("model", "train", "posteriors")) else 'extends = "small-digits"\n'
    with pytest.raises(ValueError) as caught:
        load_recipe(write(tmp_path, start + text))
    message = str(caught.value)
    assert "\n" not in message and not re.search(r"<class|NoneType", message)
    for words in says:
        assert words in message


def test_mistakes_outside_of_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"unknown recipe 'vgg16-cifar'.*Did you mean 'vgg16-cifar10'\?"):
        load_recipe("vgg16-cifar")
    with pytest.raises(FileNotFoundError, match="there is no recipe file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ValueError, match=r"unknown setting 'lamda'.*Did you mean 'lam'\?"):
        load_recipe("small-digits", lamda=3)
    with pytest.raises(ValueError, match=r"extends itself: mine\.toml -> mine\.toml"):
        load_recipe(write(tmp_path, 'extends = "mine.toml"'))
    with pytest.raises(ValueError, match="has no model"):
        load_recipe(write(tmp_path, 'description = "x"\ndata = "digits"'))
    with pytest.raises(ValueError, match="lam must be a number in"):
        load_recipe("small-digits", lam=-1)
