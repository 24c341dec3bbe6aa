import jax.numpy as jnp
import pytest

from deblur_jax.bench import measure, synthesis
from deblur_jax.cli import main


def test_works_take_turns_and_the_first_turn_does_not_count():
    order = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = measure.interleaved(works, rounds=3)
    assert order == ["a", "b"] + ["a", "b"] * 3
    assert list(timings) == ["a", "b"]
    assert all(t.low <= t.median <= t.high for t in timings.values())


def test_quartiles():
    assert measure._timing([3.0, 1.0, 2.0, 5.0, 4.0]) == (3.0, 2.0, 4.0)
    assert str(measure.Timing(0.5, 0.25, 1.0)) == "500.0 ms (250.0 to 1000.0)"


def test_crops_of_the_photographs_are_different():
    crops = synthesis._crops(5, 64)
    assert crops.shape == (5, 64, 64, 3)
    assert jnp.abs(crops[0] - crops[4]).mean() > 0.01  # of one photograph


@pytest.mark.parametrize("option", [("synthesis", "--rounds", "1"), ("pipeline", "--workers", "0")])
def test_useless_options_are_refused(option, capsys):
    assert main(["bench", *option]) == 2
    assert f"{option[1]} must be larger" in capsys.readouterr().err
