"""The weights that come with the package help, and their cards say what must be said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import blur, metrics, samples, weights
from deblur_jax.restore import read_image
from deblur_jax.restore.restorer import Restorer
from deblur_jax.weights import store


def test_names_are_found():
    assert store.bundled() == ["nano", "small", "nano+small"]
    for name in store.bundled():
        assert weights.resolve(name).network == name
    assert sum(path.stat().st_size for path in store.BUNDLED.glob("*.safetensors")) <= 8 * 2**20


@pytest.mark.parametrize("name", store.bundled())
def test_each_has_a_card(name):
    card = weights.resolve(name).card
    for field in ("summary", "data", "blur", "steps", "scores", "date", "licence", "command"):
        assert card[field], field
    text = (store.BUNDLED / f"{name}.md").read_text()
    assert str(card["steps"]).replace(" ", "") in text.replace(" ", "").replace(",", "")
    assert "What it cannot do" in text


def test_what_was_measured_later_stands_beside_the_weights(nano, monkeypatch):
    file = nano("mine.safetensors")
    before = store.read_card(file)[1]
    assert before
    file.with_suffix(".json").write_text('{"summary": "newer"}')
    assert store.read_card(file)[1] == before  # anywhere else it is a stranger
    monkeypatch.setattr(store, "BUNDLED", file.parent)
    assert store.bundled() == ["mine"]
    assert store.read_card(file)[1] == weights.resolve("mine").card == {**before, "summary": "newer"}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name != "nano")) for name in store.bundled()]
)
def restorer(request):
    return Restorer(request.param, devices=jax.devices()[:1])


@pytest.mark.parametrize("path", samples.PICTURES, ids=lambda path: path.stem)
def test_each_helps_against_shake_and_leaves_sharp_pictures(restorer, path):
    """On photographs that it was not trained on. The bounds are loose: a regression is much larger than noise."""
    sharp = read_image(path)[200:520, 300:780]
    light = blur.srgb_to_linear(jnp.asarray(sharp[None]))
    kernel = blur.trajectory_kernel(blur.random_trajectory(jax.random.key(2), extent=11.0), size=25)
    blurred = np.asarray(blur.linear_to_srgb(jnp.clip(blur.convolve_fft(light, kernel[None]), 0, 1)))

    def psnr(picture):
        inner = [jnp.asarray(p)[None, 16:-16, 16:-16] for p in (picture, sharp)]
        return float(metrics.psnr(*inner)[0])

    assert psnr(restorer.restore(blurred[0])) > psnr(blurred[0]) + 0.1
    assert psnr(restorer.restore(sharp)) > 36
