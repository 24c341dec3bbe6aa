"""Frames over devices, cut over devices and in tiles are what the network makes of the whole frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import weights
from deblur_jax.models import layers, winograd, zoo
from deblur_jax.restore.restorer import Restorer


@pytest.fixture
def whole():
    """The network on one device, without any of ours."""

    def whole(loaded, frames):
        apply = jax.jit(zoo.get(loaded.network).deployed().apply)
        # The tiny network's facts are the real one's, whose multiple is twice its own.
        padded = layers.pad_to_multiple(jnp.asarray(frames), 16)
        return np.asarray(apply({"params": loaded.deployed()}, padded))[:, : frames.shape[1], : frames.shape[2]]

    return whole


@pytest.mark.parametrize(
    ("size", "devices", "max_pixels"),
    [
        ((41, 67), 8, None),  # a batch over the devices
        ((203, 90), 4, 51 * 90),  # rows over the devices, unequal shares
        ((97, 1000), 2, 70_000),  # tiles over the devices: more than 64x1000, less than 97x1000
    ],
)
def test_every_way_is_equal(size, devices, max_pixels, nano, noise, whole, monkeypatch):
    loaded = weights.load(nano(scale=0.05))
    frames = 0.25 + 0.5 * np.array(noise(3, *size, 3))
    restorer = Restorer(loaded, devices=jax.devices()[:devices], max_pixels=max_pixels)
    restored = np.stack(restorer.restore_batch(frames))
    expected = whole(loaded, frames)
    assert np.abs(expected - frames).max() > 0.1
    assert 0 < expected.min() < expected.max() < 1
    np.testing.assert_allclose(restored, expected, atol=1e-4)


def test_a_variant_has_facts_of_its_own(nano, random_variables):
    """Tiles cut by the receptive field of the network it is named after could be too small."""
    loaded = weights.load(nano())
    entry = zoo.get("nano").varied(widths=(4, 4))
    params = random_variables(entry.deployed())["params"]
    varied = weights.Weights("nano", jax.tree.map(np.asarray, params), {}, True, {"widths": [4, 4]})
    known = Restorer(varied).facts
    assert known.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert known.multiple_of == 8
    assert known.receptive_field < Restorer(loaded).facts.receptive_field


@pytest.mark.parametrize(("devices", "by_tiles"), [(1, True), (2, False)])
def test_a_single_cpu_convolves_by_tiles_where_it_is_wide(devices, by_tiles, noise, random_variables, monkeypatch):
    variant = {"widths": [64, 8], "down_blocks": [1], "middle_blocks": 1, "up_blocks": [1]}
    entry = zoo.get("nano").varied(**variant)
    params = random_variables(entry.deployed(), scale=0.3)["params"]
    loaded = weights.Weights("nano", jax.tree.map(np.asarray, params), {}, True, variant)
    widths, forward = [], winograd.forward
    monkeypatch.setattr(winograd, "forward", lambda x, kernel: widths.append(kernel.shape[2:]) or forward(x, kernel))
    picture = np.array(noise(1, 37, 50, 3))
    restored = Restorer(loaded, devices=jax.devices()[:devices]).restore_batch(picture)
    assert set(widths) == ({(64, 64)} if by_tiles else set())
    padded = layers.pad_to_multiple(jnp.asarray(picture), 8)
    expected = jax.jit(entry.deployed().apply)({"params": params}, padded)[:, :37, :50]
    assert np.abs(expected - picture).max() > 0.1
    np.testing.assert_allclose(restored, np.clip(expected, 0, 1), atol=1e-5)
