import re
from pathlib import Path

import pytest

from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.train import config, data

CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_projects_configs(path):
    made = config.load(path)
    zoo.get(made.network).varied(**made.variant).training()
    data.recipe(made)
    text = path.read_text()
    for word in (
        f"--config {path.relative_to(path.parents[1 if path.parent.name == 'configs' else 2])}",
        "Cost:",
        "Result:",
    ):
        assert word in text


@pytest.mark.parametrize("name", ["reds_small", "photos_nano"])
def test_ablations_change_what_they_say(name):
    path = Path(__file__).parents[2] / "configs" / "ablations" / f"{name}.py"
    baseline = config.load(path).to_dict()
    names = re.findall(r'^    "(\w+)": \{', path.read_text(), re.M)
    assert len(names) > 10
    for name in names:
        made = config.load(f"{path}:{name}")
        zoo.get(made.network).varied(**made.variant).training()
        assert (made.to_dict() == baseline) == (name == "baseline")
    with pytest.raises(UserError, match=r"has no 'nothing'"):
        config.load(f"{path}:nothing")


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        ("photos_nano", "shaken shaken_linear soft lined kept linear sharp_too unharmed"),
        ("photos_small", "quarter half full"),
    ],
)
def test_runs_of_several_stages(stem, names):
    path = Path(__file__).parents[2] / "configs" / f"{stem}.py"
    stages = [config.load(path), *(config.load(f"{path}:{name}") for name in names.split())]
    for i, stage in enumerate(stages):
        data.recipe(stage)
        assert stage.to_dict() not in [other.to_dict() for other in stages[:i]]
        assert len(stage.scales) in (0, len(zoo.get(stage.network).config.widths))
    with pytest.raises(UserError, match="has no 'nothing'"):
        config.load(f"{path}:nothing")


def test_fields_are_changed_by_name():
    changes = [
        "optim.lr=1",
        "crop=((0, 64), (5, 96))",
        "data.train=some/folder",
        "blur.recipe.margin=8",
        "network=medium",
    ]
    made = config.load(CONFIGS[0], changes)
    assert (made.optim.lr, type(made.optim.lr)) == (1.0, float)
    assert made.crop == ((0, 64), (5, 96))
    assert made.data.train == ("some/folder",)
    assert data.recipe(made).margin == 8
    assert made.network == "medium"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optim.lrr=1", "config.optim.lrr: no such field; did you mean 'lr'"),
        ("optin.lr=1", "config.optin: no such group of fields; did you mean 'optim'"),
        ("stepz=1", "did you mean 'steps'"),
        ("steps=many", "config.steps: must be int, not 'many'"),
        ("steps=0", "must be at least 1"),
        ("steps", "write it as --config.steps=VALUE"),
        ("at_once=5", "must divide the batch"),
        ("dtype=float16", "must be float32 or bfloat16"),
        ("ema=1.0", "below 1"),
        ("data.frames=2", "must be odd"),
        ("crop=((0, 96))", r"config.crop must be pairs of a step and a side, .* not \(0, 96\)"),
        ("crop=()", "config.crop must be pairs"),
        ("val.every=0", "config.val.every must be at least 1, not 0"),
        ("log_every=0", "config.log_every must be at least 1, not 0"),
        ("val.side=8", "config.val.side must be at least 11"),
        ("seed=-1", "config.seed must be at least 0, not -1"),
        ("data.threads=-1", "config.data.threads must be at least 1"),
        ("optim.clip=-1.0", "config.optim.clip must be at least 0"),
        ("optim.lr=-1e-4", "config.optim.lr must be at least 0, not -0.0001"),
        ("data.weights=('a',)", "config.data.weights must be numbers from 0"),
        ("scales=(1.0, -1.0)", "config.scales must be numbers from 0"),
        ("optim.betas=(0.9, 0.99, 0.5, 0.5)", "config.optim.betas must be two numbers"),
    ],
)
def test_what_cannot_be_is_said(change, words):
    with pytest.raises(UserError, match=words):
        config.load(CONFIGS[0], [change])


def test_files_that_are_no_configs(tmp_path):
    with pytest.raises(UserError, match="no such config file"):
        config.load(tmp_path / "x.py")
    (tmp_path / "x.png").write_text("def get_config():\n    return {}\n")
    with pytest.raises(UserError, match=r"x.png: a config is a Python file"):
        config.load(tmp_path / "x.png")
    (tmp_path / "x.py").write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(UserError, match=r"x.py: ZeroDivisionError"):
        config.load(tmp_path / "x.py")
    (tmp_path / "x.py").write_text("def get_config():\n    return None\n")
    with pytest.raises(UserError, match=r"a config is what base\(\) gives, changed, and not a NoneType"):
        config.load(tmp_path / "x.py")
    (tmp_path / "x.py").write_text(
        "from ml_collections import ConfigDict\n\ndef get_config():\n    return ConfigDict()\n"
    )
    with pytest.raises(UserError, match=r"config.at_once: is missing"):
        config.load(tmp_path / "x.py")
    (tmp_path / "x.py").write_text("assert False\n")
    with pytest.raises(UserError, match=r"x.py: AssertionError$"):
        config.load(tmp_path / "x.py")
    (tmp_path / "x.py").write_text(
        "from deblur_jax.train.config import base\n\n"
        "def get_config():\n    c = base()\n    c.loss.sssim = 1.0\n    return c\n"
    )
    with pytest.raises(UserError, match=r"sssim"):
        config.load(tmp_path / "x.py")


def test_groups_that_are_free_have_types():
    with pytest.raises(UserError, match=r"config.blur.recipe.extent: must be tuple, not '5'"):
        config.load(next(path for path in CONFIGS if path.stem == "photos_small"), ["blur.recipe.extent=5"])


def test_recipes_are_checked():
    for change, words in (("margins=3", "config.blur.recipe.margins: no such field"), ("shares=()", "shares must be")):
        with pytest.raises(UserError, match=words):
            data.recipe(config.load(CONFIGS[0], [f"blur.recipe.{change}"]))
