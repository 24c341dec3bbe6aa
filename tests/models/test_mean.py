"""The mean of several networks is just that, trained or run."""

import jax
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.models import mean, zoo

TINY = {
    "small": {"widths": (4, 6, 8), "blocks": (1, 1, 1)},
    "nano": {"widths": (6, 8), "down_blocks": (1,), "middle_blocks": 1, "up_blocks": (1,)},
}


@pytest.fixture
def tiny(monkeypatch):
    """The mean of a Nano (multiple of 8) and a Small (of 4) that are quick to compile."""
    for name, fields in TINY.items():
        monkeypatch.setitem(zoo.NETWORKS, name, zoo.get(name).varied(**fields))
    return zoo.get("+".join(TINY))


def test_it_answers_what_its_members_answer_on_average(tiny, random_variables):
    picture = np.random.default_rng(0).random((2, 19, 22, 3), np.float32)
    params = random_variables(tiny.training())["params"]
    of_members = [
        jax.jit(zoo.get(name).training().apply)({"params": params[mean.member(i)]}, picture)
        for i, name in enumerate(TINY)
    ]
    answer = jax.jit(tiny.training().apply)({"params": params}, picture)
    np.testing.assert_allclose(answer, sum(of_members) / 2, atol=1e-6)
    assert np.abs(of_members[0] - of_members[1]).max() > 0.1
    trained = jax.jit(tiny.training().apply, static_argnames="train")({"params": params}, picture, train=True)
    np.testing.assert_array_equal(trained[0], answer)
    merged = jax.jit(tiny.deployed().apply)({"params": tiny.merge(params)}, picture)
    np.testing.assert_allclose(merged, answer, atol=1e-5)
    assert tiny.config.multiple_of == 8
    without = tiny.varied(branches=False)
    assert without.config == tiny.merged().config != tiny.config


def test_what_cannot_be_averaged_is_said():
    with pytest.raises(UserError, match="no mean with Maxim, which sees the whole picture"):
        zoo.get("nano+maxim")
    with pytest.raises(UserError, match="no network is called 'smal'; did you mean 'small'"):
        zoo.get("nano+smal")
    with pytest.raises(UserError, match="no 'widths' of a mean; there is branches"):
        zoo.get("nano+small").varied(widths=(8,))
