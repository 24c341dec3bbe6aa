"""Tiles cover the picture, and give what the whole gives."""

import dataclasses
import itertools

import cv2
import numpy as np
import pytest

from deblur_jax.models import facts
from deblur_jax.restore import tiles

FACTS = facts.read()


@pytest.mark.parametrize("size", [(2160, 3840), (720, 1280), (50, 5000), (4001, 1203)])
@pytest.mark.parametrize(("network", "pixels"), [("nano", 10**6), ("large", 2 * 10**6), ("deepdeblur", 10**5)])
def test_tiles_cover_everything_with_enough_around(size, network, pixels):
    known = FACTS[network]
    tiling = tiles.plan(*size, facts=known, pixels=pixels)
    assert tiling.height - size[0] < known.multiple_of > tiling.width - size[1]
    for starts, tile, side in (
        (tiling.tops, tiling.tile_height, tiling.height),
        (tiling.lefts, tiling.tile_width, tiling.width),
    ):
        kept = [place[:3] for place in tiles._cut(starts, tile)]
        assert kept[0][1] == 0
        assert kept[-1][2] == side
        for (a, _, end), (b, start, _) in itertools.pairwise(kept):
            assert end == start
            assert a % known.multiple_of == b % known.multiple_of == 0
            assert min(a + tile - end, start - b) >= known.receptive_field // 2
    if network != "deepdeblur":  # whose receptive field is larger than so small a tile
        assert tiling.tile_height * tiling.tile_width <= pixels


def test_a_filter_over_tiles_is_the_filter_over_the_whole():
    """With zeros around it, as networks have: they must be at the picture's border and nowhere else."""
    known = dataclasses.replace(FACTS["nano"], multiple_of=4, receptive_field=9)
    picture = np.random.default_rng(0).random((53, 70, 3), np.float32)
    kernel = np.random.default_rng(1).normal(size=(9, 9)).astype(np.float32)

    def apply(stack):
        assert len(stack) <= 3
        return np.stack([cv2.filter2D(tile, -1, kernel, borderType=cv2.BORDER_CONSTANT) for tile in stack])

    tiling = tiles.plan(53, 70, facts=known, pixels=700)
    assert tiling.count > 4
    restored = tiles.restore(apply, picture, tiling, batch=3)
    padded = np.pad(picture, ((0, 3), (0, 2), (0, 0)), mode="reflect")
    whole = cv2.filter2D(padded, -1, kernel, borderType=cv2.BORDER_CONSTANT)[:53, :70]
    np.testing.assert_allclose(restored, whole, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_tiles_that_differ_fade_into_each_other(dtype, monkeypatch):
    """Each tile gives another value: in between it changes by small steps, and nothing that was not written shows."""
    known = dataclasses.replace(FACTS["maxim"], tile=64, overlap=8, multiple_of=4)
    picture = np.random.default_rng(0).integers(0, 256, (150, 170, 3)).astype(dtype)
    tiling = tiles.plan(150, 170, facts=known, pixels=10**6)
    assert tiling.count == 10
    values = iter(np.random.default_rng(1).permutation(np.linspace(20, 200, 10)))
    # What memory holds before it is written: whatever it likes.
    monkeypatch.setattr(np, "empty_like", lambda a: np.full_like(a, np.inf if a.dtype.kind == "f" else 255))
    restored = tiles.restore(lambda stack: np.full_like(stack, next(values)), picture, tiling)
    assert restored.dtype == dtype
    assert restored.shape == picture.shape
    assert 20 <= restored.min() <= restored.max() <= 200
    for axis in (0, 1):
        steps = np.abs(np.diff(restored.astype(np.float32), axis=axis))
        assert steps.max() <= 180 / 16 + 1  # without fading it would be up to 180
    # Tiles that agree leave no trace.
    same = tiles.restore(lambda stack: stack, picture, tiling)
    np.testing.assert_allclose(same, picture, rtol=1e-6)


def test_a_network_that_sees_everything_gets_no_larger_tiles_than_it_shall():
    known = FACTS["maxim"]
    assert tiles.plan(720, 1280, facts=known, pixels=10**8).count == 1  # as its published scores were taken
    tiling = tiles.plan(3000, 4000, facts=known, pixels=10**8)
    assert tiling.tile_height * tiling.tile_width <= 1024**2
    for (a, _, end), (b, start, _) in itertools.pairwise(
        place[:3] for place in tiles._cut(tiling.lefts, tiling.tile_width)
    ):
        assert end == start
        assert min(a + tiling.tile_width - end, start - b) >= 64
