"""Sets of weights: what was saved comes back, and what does not fit is named."""

import json
import math
import os
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from deblur_jax import weights
from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.models import zoo
from deblur_jax.restore.restorer import Restorer

NANO = zoo.get("nano")


@pytest.fixture
def params(random_variables):
    return random_variables(NANO.deployed())["params"]


@pytest.fixture
def file(params, tmp_path):
    """Saves Nano, its flat parameters changed first."""

    def file(change=None, name="x.safetensors", **options):
        flat = {name: np.asarray(value) for name, value in flatten_dict(params, sep="/").items()}
        about = {"format": "deblur_jax 1", "network": "nano", "merged": "true", "variant": "{}", "card": "{}"} | options
        save_file(change(flat) if change else flat, tmp_path / name, metadata=about)
        return tmp_path / name

    return file


@pytest.mark.parametrize("half", [False, True])
def test_they_come_back(params, tmp_path, half):
    path, card = tmp_path / "x.safetensors", {"data": "réds", "steps": 7, "scores": {"psnr": 30.5}}
    weights.save(path, network="nano", params=params, card=card, merged=True, half=half)
    loaded = weights.load(path)
    assert (loaded.network, loaded.card, loaded.merged) == ("nano", card, True)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(params)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(before, np.float16) if half else before, after)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_what_was_trained_is_merged_to_be_run(random_variables, tmp_path):
    trained = random_variables(NANO.training())["params"]
    weights.save(tmp_path / "x", network="nano", params=trained, card={})
    loaded = weights.load(tmp_path / "x")
    assert not loaded.merged
    expected = jax.jit(NANO.merge)(trained)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), loaded.deployed(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda flat: {n: v for n, v in flat.items() if n != "head/kernel"},
            "does not fit nano: head/kernel is missing",
        ),
        (lambda flat: flat | {"neck/bias": np.zeros(1)}, "does not fit nano: the network has no neck/bias"),
        (
            lambda flat: flat | {"tail/bias": np.zeros((47,), np.float32)},
            r"does not fit nano: tail/bias has the shape \(47,\), the network's has \(48,\)",
        ),
        (lambda flat: flat | {"tail/bias": np.zeros(48, np.int32)}, "tail/bias holds int32, no real numbers"),
    ],
)
def test_what_does_not_fit_is_named(file, change, message):
    with pytest.raises(UserError, match=message):
        weights.load(file(change))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"network": "small"}, "does not fit small: .* is missing"),
        ({"network": "huge"}, "weights of 'huge', a network that this version does not have"),
        ({"network": "nano+maxim"}, "a network that this version does not have: no mean with Maxim"),
        ({"network": "nano+nano", "variant": '{"members": ["a"]}'}, "has no such variant: no 'members' of a mean"),
        ({"format": "pt"}, "not a set of weights that deblur_jax wrote"),
        ({"card": "{"}, "what the file says about itself is damaged"),
        ({"card": "[]"}, "what the file says about itself is damaged"),
        ({"merged": "false"}, "does not fit nano: .* is missing"),
        ({"merged": "1"}, "what the file says about itself is damaged"),
        ({"card": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"}, "what the file says about itself is damaged"),
        ({"card": '{"a": ' + "[" * 500 + "]" * 500 + "}"}, "what the file says about itself is damaged"),
        ({"variant": '{"unshuffle": 4.0}'}, "no such variant: unshuffle must be such as 4, not 4.0"),
        ({"variant": '{"unshuffle": 1e400}'}, "no such variant: unshuffle must be such as 4, not inf"),
        ({"variant": '{"unshuffle": NaN}'}, "no such variant: unshuffle must be such as 4, not None"),
        ({"variant": f'{{"unshuffle": {2**40}}}'}, "no such variant: unshuffle must be such as 4, not 1099511627776"),
        ({"variant": '{"widths": [48, 64, 96.0]}'}, "no such variant: widths must be such as"),
        ({"variant": '{"branches": "x"}'}, "no such variant: branches must be such as True, not 'x'"),
        ({"variant": '{"branches": -1}'}, "no such variant: branches must be such as True, not -1"),
    ],
)
def test_a_file_of_something_else_is_refused(file, about, message):
    with pytest.raises(UserError, match=message):
        weights.load(file(**about))


def test_what_cannot_be_saved(params, tmp_path):
    def broken(value):
        flat = flatten_dict(params, sep="/")
        return unflatten_dict(flat | {"tail/bias": np.full(48, value, np.float32)}, sep="/")

    for value, half in ((np.nan, False), (1e6, True)):
        with pytest.raises(UserError, match="not written, tail/bias"):
            weights.save(tmp_path / "x", network="nano", params=broken(value), card={}, merged=True, half=half)
    with pytest.raises(UserError, match="does not fit nano"):
        weights.save(tmp_path / "x", network="nano", params={"head": params["head"]}, card={}, merged=True)
    with pytest.raises(UserError, match="cannot be written: No such file"):
        weights.save(tmp_path / "none" / "x", network="nano", params=params, card={}, merged=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_no_number_is_not_run(file, value):
    with pytest.raises(UserError, match="safetensors: tail/bias has values that are no numbers"):
        weights.load(file(lambda flat: flat | {"tail/bias": np.array([0.0] * 47 + [value])}))


@pytest.mark.parametrize(
    "card",
    [
        {"config": None},
        {"config": {"data": {"train": 5}}},
        {"config": {"start_from": 5}},
        {"mean_of": 5},
        {"mean_of": [5]},
        {"weights": 5},
    ],
)
def test_a_card_that_training_did_not_write_is_not_packed(file, tmp_path, card):
    with pytest.raises(UserError, match="its card's config, mean_of or weights are not as training"):
        weights.pack(file(card=json.dumps(card)), tmp_path / "packed.safetensors", card={})
    assert not (tmp_path / "packed.safetensors").exists()


def test_names_that_are_no_text_do_not_stop_saving(params, tmp_path):
    card = {"folder": os.fsdecode(b"caf\xe9")}
    weights.save(tmp_path / "x", network="nano", params=params, card=card, merged=True)
    assert weights.load(tmp_path / "x").card == card


def test_numbers_that_json_has_not_are_null(params, tmp_path):
    card = {"scores": {"psnr": math.nan, "ssim": [math.inf, 0.5]}}
    weights.save(tmp_path / "x", network="nano", params=params, card=card, merged=True)
    assert weights.load(tmp_path / "x").card == {"scores": {"psnr": None, "ssim": [None, 0.5]}}


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (r'{"summary": "\ud800"}', "card.json: not a card or report in JSON: .* surrogates not allowed"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "card.json: not a card or report in JSON: nested too deep"),
        ("[]", "card.json: not a card or report in JSON: not an object"),
        ("{", "card.json: not a card or report in JSON: Expecting"),
    ],
)
def test_a_card_that_cannot_be_written_is_one_line(tmp_path, capsys, card, message):
    (tmp_path / "card.json").write_text(card)
    output = tmp_path / "packed.safetensors"
    assert main(["weights", "pack", "nano", "-o", str(output), "--card", str(tmp_path / "card.json")]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.count("\n") == 1
    assert not output.exists()


def test_no_name_is_not_the_working_folder(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file(name="best.safetensors")
    (tmp_path / "card.json").write_text("{}")
    for find in (weights.find, weights.resolve, Restorer):
        with pytest.raises(UserError, match="no model is named"):
            find("")


def test_a_file_of_an_exported_network_leads_to_its_folder(tmp_path):
    for name in ("card.json", "model.onnx"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"not a whole .*; an exported network is named by its folder, {tmp_path}$"):
        weights.find(str(tmp_path / "model.onnx"))


def test_a_model_is_a_file_or_a_workdir(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    final = file(name="final.safetensors", card='{"step": 2}')
    assert weights.resolve(str(final)).card == weights.resolve(str(tmp_path)).card == {"step": 2}
    file(name="best.safetensors", card='{"step": 1}')
    assert weights.resolve(str(tmp_path)).card == {"step": 1}
    (tmp_path / "empty").mkdir()
    for model, message in {
        "large": "large: its weights do not come with the package",
        "empty": "holds neither best.safetensors nor final.safetensors",
        "nowhere": "no such weights file or training workdir",
    }.items():
        with pytest.raises(UserError, match=message):
            weights.resolve(model)


def test_a_file_in_the_working_folder_does_not_change_what_a_name_means(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").write_text("notes")
    assert weights.resolve("nano").card["summary"] == weights.find("nano").card["summary"]
    with pytest.raises(UserError, match="nano: not a whole safetensors file"):
        weights.resolve("./nano")


def test_packing_merges_halves_and_forgets_the_machine(random_variables, tmp_path):
    """Of the network with its branches, and of the variant that never had any: both become plain Nano."""
    for variant in ({}, {"branches": False}):
        entry = NANO.varied(**variant)
        trained = jax.tree.map(np.asarray, random_variables(entry.training())["params"])
        started = {"start_from": "/home/somebody/runs/one/best.safetensors"}
        card = {"step": 5, "config": {**started, "data": {"train": ["/home/somebody/photos"], "val": []}}}
        source, target = tmp_path / "run.safetensors", tmp_path / "packed.safetensors"
        weights.save(source, network="nano", params=trained, card=card, variant=variant)
        weights.pack(source, target, card={"licence": "Apache-2.0"})
        packed = weights.load(target)
        assert (packed.network, packed.variant, packed.merged) == ("nano", {}, True)
        config = {"start_from": "one/best.safetensors", "data": {"train": ["photos"], "val": []}}
        assert packed.card == {"step": 5, "licence": "Apache-2.0", "config": config}
        assert target.stat().st_size < 3 * 2**20
        expected = weights.load(source).deployed()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), packed.params, expected)


def test_a_mean_is_named_by_its_members(nano, tmp_path, monkeypatch):
    """Of files, workdirs and names; packed it is one file, which is no longer of several."""
    monkeypatch.chdir(tmp_path)
    one, other = nano("one.safetensors"), nano("two/best.safetensors", seed=1)
    found = weights.resolve("one.safetensors+two")
    nano("with+plus.safetensors")
    with_plus = weights.resolve("two+with+plus.safetensors+one.safetensors").card["mean_of"]
    assert [member["weights"] for member in with_plus] == ["two", "with+plus.safetensors", "one.safetensors"]
    (tmp_path / "empty+folder").mkdir()
    with pytest.raises(UserError, match=r"^empty\+folder: holds neither best.safetensors"):
        weights.resolve("empty+folder")
    picture = np.random.default_rng(0).random((1, 16, 24, 3), np.float32)

    def answer(weights_):
        return jax.jit(weights_.entry.deployed().apply)({"params": weights_.deployed()}, picture)

    expected = (answer(weights.resolve(str(one))) + answer(weights.resolve(str(other)))) / 2
    np.testing.assert_allclose(answer(found), expected, atol=1e-6)
    assert [member["weights"] for member in found.card["mean_of"]] == ["one.safetensors", "two"]

    weights.pack("one.safetensors+two", tmp_path / "both.safetensors", card={"summary": "both"})
    packed = weights.load(tmp_path / "both.safetensors")
    np.testing.assert_allclose(answer(packed), expected, atol=1e-3)
    assert (packed.network, packed.card["summary"]) == ("nano+nano", "both")
    noted = {"config": {"data": {"val": ["/home/me/v"]}}}
    weights.save(one, network="nano", params=weights.load(one).params, card=noted, merged=True)
    weights.pack(f"{tmp_path}/two+{one}", tmp_path / "moved.safetensors", card={})
    packed_from = weights.load(tmp_path / "moved.safetensors").card["mean_of"]
    assert packed_from[0]["weights"] == f"{tmp_path.name}/two"
    assert packed_from[1]["config"] == {"data": {"val": ["v"]}}
    with pytest.raises(UserError, match=r"both.safetensors: is a mean already \(nano\+nano\)"):
        weights.resolve("one.safetensors+both.safetensors")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nano+", "a plus stands between two sets of weights"),
        ("nano+nothing", "^nothing: no such weights file"),
        ("nano+wide.safetensors", "wide.safetensors: differs from nano in down_blocks"),
    ],
)
def test_what_cannot_be_averaged_is_named(model, message, tmp_path, random_variables, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variant = {"widths": (6, 8), "down_blocks": (1,), "middle_blocks": 1, "up_blocks": (1,)}
    params = random_variables(NANO.varied(**variant).deployed())["params"]
    weights.save("wide.safetensors", network="nano", params=params, card={}, merged=True, variant=variant)
    with pytest.raises(UserError, match=message):
        weights.resolve(model)
