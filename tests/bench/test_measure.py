import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax.bench import measure, synthesis, train
from deblur_jax.cli import main


def test_works_take_turns_and_the_first_turn_does_not_count():
    order = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = measure.interleaved(works, rounds=3)
    assert order == ["a", "b"] + ["a", "b"] * 3
    assert list(timings) == ["a", "b"]
    assert all(t.low <= t.median <= t.high for t in timings.values())


def test_quartiles():
    assert measure.timing_of([3.0, 1.0, 2.0, 5.0, 4.0]) == (3.0, 2.0, 4.0)
    assert str(measure.Timing(0.5, 0.25, 1.0)) == "500.0 ms (250.0 to 1000.0)"


def test_crops_of_the_photographs_are_different():
    crops = synthesis._crops(5, 64)
    assert crops.shape == (5, 64, 64, 3)
    assert jnp.abs(crops[0] - crops[4]).mean() > 0.01  # of one photograph


@pytest.mark.parametrize(
    "option", [("synthesis", "--rounds", "1"), ("pipeline", "--workers", "0"), ("train", "--batch", "0")]
)
def test_useless_options_are_refused(option, capsys):
    assert main(["bench", *option]) == 2
    assert f"{option[1]} must be larger" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [("video", "191x145", "sides must be even"), ("restore", "99999999999x9", "a side may have 16384 pixels at most")],
)
def test_sizes_that_cannot_be_measured(kind, size, message, capsys):
    assert main(["bench", kind, "--size", size]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_no_record_is_kept_of_a_cpu(capsys):
    assert main(["bench", "train", "--record"]) == 2
    assert "records are kept of GPUs and TPUs only" in capsys.readouterr().err


@pytest.mark.slow
def test_the_step_that_is_timed_is_the_one_that_trains():
    """Its parameters change, and the memory that is told is at least state and batch."""
    config = train._config("nano", 2, 48)
    config.variant = {"widths": (4,), "down_blocks": (), "middle_blocks": 1, "up_blocks": ()}
    given = {name: np.full((2, 48, 48, 3), value, np.uint8) for name, value in (("blur", 90), ("sharp", 120))}
    work, params, memory = train._ours(config, given)
    losses = [float(work()["loss"]) for _ in range(3)]
    assert losses[0] != losses[2]
    state = 4 * sum(leaf.size for leaf in jax.tree.leaves(params)) * 4  # parameters, two moments, mean
    assert memory >= state
