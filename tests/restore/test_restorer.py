"""The Restorer gives back what it got, sharper: shape, type, alpha, what lies outside the mask."""

import itertools

import jax
import numpy as np
import pytest

from deblur_jax import weights
from deblur_jax.blur import srgb_to_linear
from deblur_jax.errors import UserError
from deblur_jax.filters import brightened, darkened, darkness
from deblur_jax.models import layers, zoo
from deblur_jax.restore.restorer import Restorer, ahead


@pytest.fixture
def restorer(nano):
    def make(**options):
        return Restorer(weights.load(nano(scale=0.3)), devices=jax.devices()[:1], **options)

    return make


@pytest.fixture
def picture(photo):
    return np.asarray(photo[0])


def network(restorer, picture):
    apply = jax.jit(zoo.get("nano").deployed().apply)
    # The tiny network's facts are the real one's, whose multiple is twice its own.
    padded = layers.pad_to_multiple(jax.numpy.asarray(picture[None]), 16)
    return np.asarray(apply({"params": restorer.model.deployed()}, padded))[0, : len(picture), : picture.shape[1]]


def test_a_float_picture_is_what_the_network_makes_of_it(restorer, picture):
    ours = restorer()
    expected = np.clip(network(ours, picture), 0, 1)
    assert np.abs(expected - picture).max() > 0.05
    restored = ours.restore(picture)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, expected, atol=1e-5)
    half = ours.restore(picture, strength=0.5)
    np.testing.assert_allclose(half, np.clip((picture + network(ours, picture)) / 2, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(ours.restore(picture, strength=0.0), picture)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_shape_and_type_are_kept(restorer, picture, dtype, channels):
    ours, full = restorer(), np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    shaped = {0: picture[..., 0], 1: picture[..., :1], 3: picture, 4: np.concatenate([picture, picture[..., :1]], -1)}
    given = (shaped[channels] * full).astype(dtype)
    restored = ours.restore(given)
    assert restored.shape == given.shape
    assert restored.dtype == dtype
    if channels == 4:
        np.testing.assert_array_equal(restored[..., 3], given[..., 3])
    if channels >= 3:
        expected = np.clip(network(ours, given[..., :3].astype(np.float32) / full), 0, 1)
        np.testing.assert_allclose(restored[..., :3] / full, expected, atol=1e-5 + (0.5 / full if full > 1 else 0))


def test_values_outside_a_floating_picture_stay_outside(restorer, picture):
    bright = picture.copy()
    bright[40, 40] = 4.0
    bright[10, 10] = -0.5
    restored = restorer().restore(bright)
    assert restored[40, 40].max() > 3.0
    assert restored[10, 10].min() < -0.3
    np.testing.assert_array_less(np.delete(restored.reshape(-1, 3), (40 * 131 + 40, 10 * 131 + 10), 0), 1.0001)


def test_tiles_give_what_the_whole_gives(restorer, picture):
    """The picture is repeated until its tiles, which need three margins of context, are smaller than it."""
    large = (np.tile(picture, (4, 10, 1)) * 65535).astype(np.uint16)[:371, :1203]
    whole, tiled, heard = restorer(), restorer(max_pixels=400_000), []
    assert tiled.engine.tiling(*large.shape[:2]).count > 1 == whole.engine.tiling(*large.shape[:2]).count
    one, other = whole.restore(large), tiled.restore(large, tick=lambda *done: heard.append(done))
    np.testing.assert_allclose(one / 65535, other / 65535, atol=1e-4)
    assert heard[-1][0] == heard[-1][1] == tiled.engine.tiling(*large.shape[:2]).count


def test_memory_decides_over_tiles(restorer):
    assert restorer(memory=10**9).engine.tiling(700, 700).count == 1
    assert restorer(memory=10**7).engine.tiling(1400, 1400).count > 1


def test_turns_are_turned_back(restorer, picture):
    ours = restorer()

    class Skewed:
        """Brightens to the right: the mean over all turns and flips is the same everywhere."""

        facts, batch, tiling = ours.engine.facts, 1, ours.engine.tiling

        def __call__(self, frames):
            return frames + np.linspace(0, 0.2, frames.shape[2], dtype=np.float32)[None, None, :, None]

    ours.engine = Skewed()
    square = 0.3 + 0.5 * picture[:96, :96]
    np.testing.assert_allclose(ours.restore(square, tta=True), square + 0.1, atol=1e-6)


def test_a_mask_restores_there_alone(restorer, picture):
    ours = restorer()
    large = np.tile(picture, (3, 8, 1))
    mask = np.zeros(large.shape[:2], np.float32)
    mask[100:140, 500:560] = 1.0
    mask[140:150, 500:560] = 0.5
    restored, whole = ours.restore(large, mask=mask), ours.restore(large)
    np.testing.assert_array_equal(restored[mask == 0], large[mask == 0])
    np.testing.assert_allclose(restored[mask == 1], whole[mask == 1], atol=1e-5)
    np.testing.assert_allclose(restored[mask == 0.5], (large + whole)[mask == 0.5] / 2, atol=1e-5)
    np.testing.assert_array_equal(ours.restore(large, mask=0 * mask), large)


def test_a_denoiser_stands_in_front(restorer, picture):
    ours = restorer()
    noisy = np.clip(picture + 0.03 * np.random.default_rng(0).normal(size=picture.shape), 0, 1).astype(np.float32)

    class Same:
        facts, batch, tiling = ours.engine.facts, 1, ours.engine.tiling

        def __call__(self, frames):
            return frames

    ours.engine = Same()
    np.testing.assert_allclose(ours.restore(noisy), noisy, atol=1e-6)
    cleaned = ours.restore(noisy, denoise="bilateral")
    assert np.square(cleaned - picture).mean() < 0.7 * np.square(noisy - picture).mean()


def test_linear_pictures_are_restored_as_srgb(restorer, picture):
    ours, light = restorer(), np.asarray(srgb_to_linear(picture))
    expected = np.asarray(srgb_to_linear(ours.restore(picture)))
    assert np.abs(expected - light).max() > 0.03
    np.testing.assert_allclose(ours.restore(light, linear=True), expected, atol=1e-6)
    np.testing.assert_allclose(ours.restore(light, linear=True, strength=0.0), light, atol=1e-7)


@pytest.fixture
def dark(picture):
    darker = picture**3.5
    assert 0.02 < np.median(darker) < 0.12
    return darker


def test_dark_pictures_are_brightened_for_the_network(restorer, dark):
    ours, d = restorer(), np.asarray(darkness(np.median(dark)))[None]
    expected = darkened(network(ours, np.asarray(brightened(dark[None], d))[0])[None], d)[0]
    assert np.abs(expected - dark).max() > 0.02
    np.testing.assert_allclose(ours.restore(dark), np.clip(expected, 0, 1), atol=1e-5)
    np.testing.assert_array_equal(ours.restore(dark, strength=0.0), dark)
    huge = np.full((4, 4, 3), 3e38, np.float32)  # of which the mean of two is none
    np.testing.assert_array_equal(ours.restore(huge), huge)
    linear = np.asarray(srgb_to_linear(dark))
    expected = np.asarray(srgb_to_linear(ours.restore(dark)))
    np.testing.assert_allclose(ours.restore(linear, linear=True), expected, atol=1e-5)


def test_how_dark_is_said_by_the_whole_picture(restorer, dark):
    """Not by a tile, by what a mask touches, or by the others of a batch; a grey picture's alike."""
    whole, tiled = restorer(), restorer(max_pixels=400_000)
    large = np.tile(dark, (4, 10, 1))[:371, :1203]
    large[:, 900:] = 0.6 + 0.4 * large[:, 900:]  # there alone it would be bright
    assert tiled.engine.tiling(*large.shape[:2]).count > 1
    one = whole.restore(large)
    np.testing.assert_allclose(tiled.restore(large), one, atol=1e-4)
    mask = np.zeros(large.shape[:2], np.float32)
    mask[100:140, 1000:1060] = 1.0
    np.testing.assert_allclose(whole.restore(large, mask=mask)[mask == 1], one[mask == 1], atol=1e-5)
    eighths = (255 * large[:96, 800:1000]).astype(np.uint8)
    pair = whole.restore_batch([eighths, np.flip(eighths // 2), eighths[..., :1]])
    np.testing.assert_array_equal(pair[0], whole.restore(eighths))
    np.testing.assert_array_equal(pair[1], whole.restore(np.flip(eighths // 2)))
    np.testing.assert_array_equal(pair[2], whole.restore(eighths[..., 0])[..., None])


def test_batches_and_frames(restorer, picture):
    ours = restorer()
    small, grey = picture[:32, :32], (255 * picture[:30, :40, :1]).astype(np.uint8)
    several = [small, small[::-1], grey, picture]
    singly = [ours.restore(p) for p in several]
    for batch in (ours.restore_batch(several), list(ours.frames(iter(several)))):
        assert [(p.shape, p.dtype) for p in batch] == [(p.shape, p.dtype) for p in several]
        for one, other in zip(batch, singly, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_comes_ahead_of_time():
    assert list(ahead(range(7), 2)) == list(range(7))
    endless = ahead(itertools.count(), 2)
    assert [next(endless) for _ in range(5)] == list(range(5))
    endless.close()

    def broken():
        yield 1
        raise UserError("no more")

    reading = ahead(broken(), 2)
    assert next(reading) == 1
    with pytest.raises(UserError, match="no more"):
        next(reading)


@pytest.mark.parametrize(
    ("picture", "options", "message"),
    [
        (np.zeros((4, 4, 3), np.int32), {}, "uint8, uint16 or floating"),
        (np.zeros((4, 4, 2), np.uint8), {}, r"\(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), {}, r"\(0, 4, 3\)"),
        (np.full((4, 4, 3), np.nan), {}, "no numbers"),
        (np.zeros((4, 4, 3), np.uint8), {"strength": 2.0}, "strength must be from 0 to 1"),
        (np.zeros((4, 4, 3), np.uint8), {"denoise": "median"}, "there is bilateral"),
        (np.zeros((4, 4, 3), np.uint8), {"mask": np.ones((4, 5))}, "the mask is 5x4, the picture 4x4"),
        (np.zeros((4, 4, 3), np.uint8), {"mask": np.full((4, 4), np.nan)}, "the mask holds values that are no numbers"),
        (np.full((4, 4, 3), 1e300), {}, "no numbers, or too large for one"),
        (np.full((4, 4), -np.inf), {}, "no numbers, or too large for one"),
    ],
)
def test_what_cannot_be_restored(restorer, picture, options, message):
    with pytest.raises(UserError, match=message):
        restorer().restore(picture, **options)


@pytest.mark.parametrize("mask", [np.float32(1), np.ones(4), np.ones((4, 4, 1)), np.full((4, 4), "x")])
def test_masks_that_are_no_pictures(restorer, mask):
    """Below what checks shapes in tests, and nowhere else."""
    with pytest.raises(UserError, match=r"a mask must be numbers \(h w\), not "):
        restorer()._masked(lambda stack: stack, np.zeros((4, 4, 3), np.uint8), np.asarray(mask), None)


@pytest.mark.parametrize("name", ["memory", "max_pixels"])
@pytest.mark.parametrize("value", [-5, 0])
def test_limits_that_limit_nothing(name, value):
    with pytest.raises(UserError, match=f"{name} must be more than 0, not {value}"):
        Restorer("nano", **{name: value})


def test_engines_and_devices_that_are_not_there(nano):
    loaded = weights.load(nano())
    for options in ({"engine": "torch"}, {"precision": "int3"}, {"device": "npu"}, {"device": "cpu:99"}):
        with pytest.raises(UserError, match=r"no engine|precision must be|no device is called"):
            Restorer(loaded, **options)
    assert Restorer(loaded, device="cpu:1").engine.batch == 1
