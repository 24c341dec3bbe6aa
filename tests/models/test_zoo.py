"""The facts are what a fresh measurement says, and what was promised of the sizes."""

import math

import jax
import jax.numpy as jnp
import pytest

from deblur_jax.errors import UserError
from deblur_jax.models import facts, layers, zoo
from deblur_jax.models.multiscale import MultiScale, MultiScaleConfig

_SLOW = ("nano+small", "deepdeblur", "large", "large_uniform", "medium_uniform", "maxim", "maxim_s2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in zoo.NETWORKS]
)
def test_the_listed_facts_are_measured_afresh(name):
    assert facts.read()[name] == facts.measure(name), "run 'make facts' and look at what changed"


def test_a_means_facts_follow_from_its_members():
    known = facts.read()
    assert facts.of_mean([known["nano"], known["small"]]) == known["nano+small"]
    assert facts.of_mean([known["small"], known["small"]]) == facts.measure("small+small")


def test_facts_and_zoo_list_the_same_networks_in_the_same_order():
    assert list(facts.read()) == list(zoo.NETWORKS)


@pytest.mark.parametrize(("name", "millions"), [("small", 1.7), ("medium", 5.0), ("large", 14.0)])
def test_sizes_are_as_promised_within_2_percent(name, millions):
    for variant in (name, f"{name}_uniform"):
        assert math.isclose(facts.read()[variant].parameters / 1e6, millions, rel_tol=0.02)


def test_nano_needs_at_most_11_kmac_a_pixel():
    assert facts.read()["nano"].kmac_per_pixel <= 11


def test_deepdeblurs_operations_are_those_counted_of_the_official_network():
    """4724.1965 GMAC at 1280x720, counted in PyTorch."""
    assert math.isclose(facts.read()["deepdeblur"].gmac(1280, 720), 4724.1965, rel_tol=1e-6)


def test_operations_are_counted_right():
    def one_of_each(x, w, m):
        y = jax.lax.conv_general_dilated(x, w, (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.jit(jnp.dot)(layers.pointwise(y, m), m[0, 0])

    shapes = [(1, 8, 8, 4), (3, 3, 4, 6), (1, 1, 6, 6)]
    jaxpr = jax.make_jaxpr(one_of_each)(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes))
    assert facts.count_macs(jaxpr) == 16 * (9 * 4 * 6 + 6 * 6 + 6 * 6)


def test_a_known_receptive_field_is_measured():
    """One scale of 3x3 convolutions: head, two in the block, tail: four pixels to each side."""
    assert facts.receptive_field(MultiScale(MultiScaleConfig(widths=(2,), blocks=(1,), scales=1)), 1) == 9


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'medium'"):
        zoo.get("meduim")
    with pytest.raises(UserError, match="there are nano, small"):
        zoo.get("x")
