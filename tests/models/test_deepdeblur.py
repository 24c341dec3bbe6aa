"""Against the official PyTorch network (SeungjunNah/DeepDeblur-PyTorch, commit 26047f7a), by its recorded
in- and outputs with seeded weights of a small configuration, and by the official checkpoint's names."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.models import facts
from deblur_jax.models.deepdeblur import (
    DeepDeblur,
    DeepDeblurConfig,
    gaussian_pyramid,
    params_from_torch,
    torch_names,
)
from deblur_jax.weights import read_tensors

HERE = Path(__file__).parent
TINY = DeepDeblurConfig(blocks=2, features=8)
# 10 times what float32 differs from float64 there, finest scale first.
TOLERANCES = (3.3e-3, 1.6e-3, 1.3e-3)


def nhwc(x):
    return jnp.asarray(x.transpose(0, 2, 3, 1))


@pytest.fixture(scope="module")
def state():
    return read_tensors(HERE / "deepdeblur-tiny.safetensors")


@pytest.mark.parametrize("case", ["a", "b"])
def test_outputs_are_the_official_ones(state, case):
    recorded = np.load(HERE / "deepdeblur-tiny-io.npz")
    pictures = tuple(nhwc(recorded[f"in_{case}_{s}"]) for s in range(3))
    variables = {"params": params_from_torch(TINY, state)}
    ours = DeepDeblur(TINY).apply(variables, pictures, method="restore_pyramid")
    for s, estimate in enumerate(ours):
        theirs = nhwc(recorded[f"out_{case}_{s}"])
        bound = max(1e-4 * float(jnp.abs(theirs).max()), TOLERANCES[s])
        np.testing.assert_allclose(estimate, theirs, rtol=0, atol=bound)


def test_the_pyramid_is_the_official_one():
    recorded = np.load(HERE / "deepdeblur-pyramid-io.npz")
    for case in ("a", "b"):
        levels = gaussian_pyramid(jnp.asarray(recorded[f"in_{case}"])[None], 3)
        for s, level in enumerate(levels):
            np.testing.assert_allclose(level[0], recorded[f"lvl_{case}_{s}"], atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (13, 22)])
def test_pictures_in_our_range_and_any_size(state, noise, size):
    variables, x = {"params": params_from_torch(TINY, state)}, noise(1, *size, 3)
    full, half, quarter = DeepDeblur(TINY).apply(variables, x, train=True)
    assert [e.shape[1:3] for e in (full, half, quarter)] == [(-(-size[0] // f), -(-size[1] // f)) for f in (1, 2, 4)]
    np.testing.assert_array_equal(DeepDeblur(TINY).apply(variables, x), full)
    padded = jnp.pad(x, ((0, 0), (0, -size[0] % 4), (0, -size[1] % 4), (0, 0)), mode="reflect")
    pictures = gaussian_pyramid(255.0 * padded, 3)
    official = DeepDeblur(TINY).apply(variables, pictures, method="restore_pyramid")
    np.testing.assert_allclose(255.0 * full, official[0][:, : size[0], : size[1]], atol=1e-2)


def test_every_name_and_shape_of_the_official_checkpoint_has_its_place():
    """`deepdeblur-official.json` lists them: 244 entries, 11 721 321 numbers."""
    manifest = json.loads((HERE / "deepdeblur-official.json").read_text())
    official = DeepDeblurConfig.official()
    assert {f"{name}.{kind}" for name in torch_names(official).values() for kind in ("weight", "bias")} == set(manifest)
    params = params_from_torch(official, {name: np.zeros(shape, np.float32) for name, shape in manifest.items()})
    assert sum(np.prod(shape) for shape in manifest.values()) == facts.read()["deepdeblur"].parameters
    assert params["scale2_head"]["kernel"].shape == (5, 5, 3, 64)


def test_weights_that_do_not_fit_are_named(state):
    broken = dict(state)
    broken["extra.weight"] = np.zeros(3)
    broken["body_models.0.body.0.bias"] = np.zeros(9)
    broken["conv_end_models.1.uppath.0.weight"] = np.zeros((13, 3, 5, 5))
    del broken["body_models.1.body.0.weight"]
    with pytest.raises(UserError) as error:
        params_from_torch(TINY, broken)
    message = str(error.value)
    assert "1 missing (body_models.1.body.0.weight)" in message
    assert "1 unexpected (extra.weight)" in message
    assert "2 misshapen" in message
    assert "body_models.0.body.0.bias (9,) instead of (8,)" in message
    assert "conv_end_models.1.uppath.0.weight (13, 3, 5, 5) instead of (12, 3, 5, 5)" in message
