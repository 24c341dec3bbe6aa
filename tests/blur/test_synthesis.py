"""Training pairs: what each kind changes, what it must not, the shares, and the same on eight devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import blur
from deblur_jax.blur.synthesis import KINDS, Recipe, blurred_light, synthesise

OF_PICTURES = [kind for kind in KINDS if kind != "frames"]  # that one is made of clips: tests/train/test_step.py
# A camera that changes nothing, small pictures, few views.
PLAIN = Recipe(
    shares=tuple((kind, 1.0) for kind in OF_PICTURES),
    margin=4,
    views=6,
    kernel_size=11,
    extent=(4.0, 7.0),
    roll=(0.0, 0.02),
    focal=(100.0, 200.0),
    off_centre=10.0,
    radius=(2.0, 4.0),
    sigma=(1.0, 2.0),
    air_strength=(1.0, 3.0),
    air_warp=(0.5, 1.0),
    saturated=0.0,
    noisy=0.0,
    compressed=0.0,
    exposure=(1.0, 1.0),
    white_balance=(1.0, 1.0),
    contrast=(0.0, 0.0),
    other_gamma=0.0,
    grey=0.0,
    flat=0.0,
)
M = PLAIN.margin
COUNT, H, W = 48, 32, 40
KEY = jax.random.key(0, impl="rbg")
RECORDED = jnp.stack(
    [blur.random_rotations(jax.random.key(i), extent=5.0, roll=0.01, focal=150.0, views=6) for i in (0, 1)]
)


@pytest.fixture(scope="module")
def pictures(photo):
    """Crops of a photograph."""
    places = np.random.default_rng(0).integers(0, (96 - H, 131 - W), (COUNT, 2))
    return jnp.stack([photo[0, down : down + H, right : right + W] for down, right in places])


@pytest.fixture(scope="module")
def pairs(pictures):
    return synthesise(KEY, pictures, recipe=PLAIN, recorded=RECORDED)


def cropped(x):
    return np.asarray(x)[:, M:-M, M:-M]


@pytest.mark.slow
def test_every_kind_changes_what_it_should(pictures, pairs):
    """The camera here changes nothing: the target is the picture as it was, and only `sharp` comes back unblurred."""
    assert pairs.blur.shape == pairs.sharp.shape == (COUNT, H - 2 * M, W - 2 * M, 3)
    kinds = np.array(KINDS)[pairs.kind]
    assert set(kinds) == set(OF_PICTURES)
    given, following = cropped(pictures), cropped(jnp.roll(pictures, -1, 0))
    for kind, picture, other, made, target in zip(kinds, given, following, pairs.blur, pairs.sharp, strict=True):
        if kind == "layers":
            # Every pixel lies between the picture and the next one's, somewhere it is the one and somewhere the other.
            low, high = np.minimum(picture, other), np.maximum(picture, other)
            assert np.all((target >= low - 0.003) & (target <= high + 0.003))
            assert np.abs(target - picture).max() > 0.1
        else:
            np.testing.assert_allclose(target, picture, atol=0.003)
        change = np.abs(made - target).mean()
        if kind == "sharp":
            np.testing.assert_array_equal(made, target)
        else:
            assert change > 0.003, kind
            # Light moves, none is made: the means agree but for what moves over the border.
            light = [float(blur.srgb_to_linear(x).mean()) for x in (made, target)]
            np.testing.assert_allclose(*light, rtol=0.2)
            fine = [np.abs(np.diff(x, 2, axis=1)).mean() for x in (made, target)]
            assert fine[0] < fine[1], kind


@pytest.mark.slow
def test_one_kind_alone_is_that_kind_and_leaves_out_the_rest(pictures):
    for kind in ("sharp", "gaussian"):
        recipe = dataclasses.replace(PLAIN, shares=((kind, 2.0),))
        made = synthesise(KEY, pictures[:8], recipe=recipe)
        assert set(np.array(KINDS)[made.kind]) == {kind}
        assert bool(jnp.all(made.blur == made.sharp)) == (kind == "sharp")


def test_a_key_gives_its_pairs_and_another_key_others(pictures, pairs):
    again = synthesise(KEY, pictures, recipe=PLAIN, recorded=RECORDED)
    other = synthesise(jax.random.key(1, impl="rbg"), pictures, recipe=PLAIN, recorded=RECORDED)
    for a, b, c in zip(pairs, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


@pytest.mark.slow
def test_black_and_white_stay_finite_and_themselves():
    for value in (0.0, 1.0):
        made = synthesise(KEY, jnp.full((COUNT, H, W, 3), value), recipe=PLAIN, recorded=RECORDED)
        np.testing.assert_allclose(made.blur, value, atol=0.003)
        np.testing.assert_array_equal(made.sharp, value)


# All that a camera does, on few kinds: the shares of kinds, noise, encodings.
FULL = dataclasses.replace(
    Recipe(),
    shares=(("sharp", 3.0), ("gaussian", 1.0), ("layers", 0.0)),
    margin=2,
    kernel_size=9,
    sigma=(1.0, 2.0),
)


@functools.cache
def many(value=None):
    x = jax.random.uniform(jax.random.key(3), (1024, 12, 16, 3), minval=0.3, maxval=0.7)
    return synthesise(KEY, x if value is None else jnp.full_like(x, value), recipe=FULL)


def share(found, expected):
    """A share of 1024 draws is within 4.5 deviations of what was asked for."""
    assert abs(np.mean(found) - expected) < 4.5 * np.sqrt(expected * (1 - expected) / 1024)


@pytest.mark.slow
def test_the_shares_are_kept():
    made = many()
    kinds = np.array(KINDS)[made.kind]
    share(kinds == "sharp", 0.75)
    share(kinds == "gaussian", 0.25)
    for x in made[:2]:
        levels = np.asarray(x) * 255
        np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
        assert levels.min() >= 0
        assert levels.max() <= 255
    share(np.ptp(made.sharp, -1).max((1, 2)) < 1e-3, FULL.grey)
    # Sharp pictures without noise and compression are equal to their targets.
    same = np.abs(made.blur - made.sharp).max((1, 2, 3))[kinds == "sharp"] == 0
    expected = (1 - FULL.noisy) * (1 - FULL.compressed)
    assert abs(same.mean() - expected) < 4.5 * np.sqrt(expected * (1 - expected) / len(same)) + 0.03  # weak noise


def test_blur_reaches_as_far_as_it_is_told():
    recipe = dataclasses.replace(PLAIN, shares=(("gaussian", 1.0),), sigma=(0.5, 4.0))
    noise = jax.random.uniform(jax.random.key(3), (8, 40, 48, 3))
    left = [np.asarray(synthesise(KEY, noise, recipe=recipe, reach=r).blur).std((1, 2, 3)) for r in (0.0, 0.3, 1.0)]
    assert (left[0] > left[1]).all()
    assert (left[1] > left[2]).all()
    np.testing.assert_allclose(left[0], left[0][0], rtol=0.15)  # all of the least strength


def test_light_blur_is_drawn_as_often_as_heavy_by_its_logarithm():
    """Of a point of light: half of all Gaussians lie below the geometric mean of their range."""
    point = jnp.zeros((256, 24, 24, 3)).at[:, 12, 12].set(1.0)
    spreads = {}
    for light_too in (False, True):
        recipe = dataclasses.replace(
            PLAIN, shares=(("gaussian", 1.0),), sigma=(0.5, 2.0), kernel_size=17, light_too=light_too
        )
        seen = blurred_light(KEY, point, kind="gaussian", recipe=recipe)[0]
        spreads[light_too] = np.asarray(seen[:, 8, 8, 0])  # the peak falls with the strength
    middle = {sigma: float(blur.gaussian_kernel(sigma, size=17)[8, 8]) for sigma in (1.0, 1.25)}
    for light_too, sigma in ((False, 1.25), (True, 1.0)):
        assert abs(np.mean(spreads[light_too] > middle[sigma]) - 0.5) < 0.11
    with pytest.raises(ValueError, match="must begin above 0"):
        dataclasses.replace(PLAIN, light_too=True, sigma=(0.0, 1.0))


def test_some_are_stored_linearly():
    recipe = dataclasses.replace(
        PLAIN, shares=(("sharp", 1.0),), linear=0.5, saturated=0.0, other_gamma=0.0, flat=0.0, grey=0.0,
        exposure=(1.0, 1.0), white_balance=(1.0, 1.0), contrast=(0.0, 0.0)
    )  # fmt: skip
    grey = jnp.full((64, 12, 12, 3), 0.5)
    sharp = np.asarray(synthesise(KEY, grey, recipe=recipe).sharp)[:, 0, 0, 0]
    linear = np.abs(sharp - 0.5**2.2) < 0.01
    assert (linear | (np.abs(sharp - 0.5) < 0.01)).all()
    assert 0.3 < linear.mean() < 0.7


@pytest.mark.slow
def test_both_are_seen_by_the_same_camera():
    """A flat picture has nothing to blur: each pair is one colour, noise aside, whatever exposure, balance, curve."""
    made = many(0.5)
    means = [np.asarray(x).mean((1, 2)) for x in made[:2]]
    np.testing.assert_allclose(means[0], means[1], atol=0.025)
    assert np.std(means[1], 0).min() > 0.03
    assert np.asarray(made.sharp).std((1, 2)).max() < 1e-6


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_full_camera_keeps_black_and_white_finite(value):
    made = many(value)
    for x in made[:2]:
        assert np.isfinite(x).all()
        assert 0 <= float(x.min()) <= float(x.max()) <= 1


def test_what_cannot_be_made_is_an_error(pictures):
    for shares in ((("wobble", 1.0),), (), (("sharp", 0.0),), (("sharp", 1.0), ("line", -0.5))):
        with pytest.raises(ValueError, match="shares must be of sharp"):
            Recipe(shares=shares)
    for field, value, message in (
        ("margin", -5, "margin must be a whole number from 0, not -5"),
        ("views", 0, "views must be a whole number from 1"),
        ("kernel_size", 8, "kernel_size must be odd"),
        ("sigma", (2.0, 1.0), "sigma must be two numbers, the second no smaller"),
        ("gain", (float("nan"), 1.0), "gain must be two numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(PLAIN, **{field: value})
    recipe = dataclasses.replace(PLAIN, shares=(("recorded", 1.0),))
    with pytest.raises(ValueError, match="none was given"):
        synthesise(KEY, pictures, recipe=recipe)
    with pytest.raises(ValueError, match="recorded motion has 5 views, the recipe 6"):
        synthesise(KEY, pictures, recipe=recipe, recorded=RECORDED[:, :5])
    with pytest.raises(ValueError, match="share of averaged frames, but none were given"):
        synthesise(KEY, pictures, recipe=dataclasses.replace(PLAIN, shares=(("frames", 1.0),)))
    with pytest.raises(ValueError, match="nothing is left of 40x32 pixels"):
        synthesise(KEY, pictures, recipe=dataclasses.replace(PLAIN, margin=16), recorded=RECORDED)


@pytest.mark.slow
def test_eight_devices_make_the_same_pairs_as_one(pictures, pairs):
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(pictures, jax.NamedSharding(mesh, jax.P("batch")))
    everywhere = jax.NamedSharding(mesh, jax.P())
    made = synthesise(
        jax.device_put(KEY, everywhere), spread, recipe=PLAIN, recorded=jax.device_put(RECORDED, everywhere)
    )
    assert len(made.blur.sharding.device_set) == 8
    np.testing.assert_array_equal(made.kind, pairs.kind)
    for a, b in zip(made[:2], pairs[:2], strict=True):
        # A value halfway between two of 8 bits may be rounded either way.
        assert float(jnp.abs(np.asarray(a) - np.asarray(b)).max()) <= 1.01 / 255
        assert np.mean(np.asarray(a) != np.asarray(b)) < 1e-3
