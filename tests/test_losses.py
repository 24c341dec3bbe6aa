"""Values by hand, finite gradients where they could be lost, and the objective's sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import losses, metrics
from deblur_jax.errors import UserError
from deblur_jax.models import layers
from deblur_jax.models.multiscale import MultiScale, MultiScaleConfig


def test_losses_by_their_definitions(noise):
    a, b = noise(2, 16, 18, 3), noise(2, 16, 18, 3, seed=1)
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    spectrum = np.fft.rfft2(d, axes=(1, 2), norm="ortho")
    neighbours = np.pad(d, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    curved = neighbours[:, 2:, 1:-1] + neighbours[:, :-2, 1:-1] + neighbours[:, 1:-1, 2:] + neighbours[:, 1:-1, :-2]
    expected = {
        "l1": np.abs(d).mean(),
        "mse": (d**2).mean(),
        "charbonnier": np.sqrt(d**2 + 1e-6).mean(),
        "ssim": 1 - np.asarray(metrics.ssim(a, b)).mean(),
        "psnr": (10 * np.log10(1 + (d**2).mean(axis=(1, 2, 3)) / 1e-5)).mean(),
        "frequency": (np.abs(spectrum.real).mean() + np.abs(spectrum.imag).mean()) / 2,
        "edge": np.sqrt((curved - 4 * d) ** 2 + 1e-6).mean(),
    }
    assert set(expected) == set(losses.LOSSES)
    for name, value in expected.items():
        np.testing.assert_allclose(losses.LOSSES[name](a, b), value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_are_finite(name, dtype, noise):
    same = noise(1, 16, 16, 3).astype(dtype)
    flat = jnp.full((1, 16, 16, 3), 0.5, dtype)
    gradient = jax.grad(losses.LOSSES[name])
    for prediction, target in ((same, same), (flat, flat), (same, flat), (flat, same), (0 * flat, 0 * flat)):
        assert np.isfinite(np.asarray(gradient(prediction, target), np.float32)).all()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_minimising_a_loss_brings_the_pictures_together(name, noise):
    target, start = 0.25 + 0.5 * noise(1, 16, 16, 3), jnp.full((1, 16, 16, 3), 0.5)
    loss = losses.LOSSES[name]
    gradient = jax.grad(loss)(start, target)
    before, after = loss(start, target), loss(start - 0.01 * gradient / jnp.abs(gradient).max(), target)
    assert after < before


def test_the_objective_is_the_weighted_mean_over_scales(noise):
    targets = layers.pyramid(noise(2, 48, 48, 3), 3)
    estimates = layers.pyramid(noise(2, 48, 48, 3, seed=1), 3)
    weights = {"l1": 1.0, "ssim": 0.25, "mse": 0.0}
    total, parts = losses.objective(estimates, targets, weights=weights, scale_weights=(2.0, 1.0, 1.0))
    assert set(parts) == {"l1", "ssim"}
    l1 = [losses.l1(e, t) for e, t in zip(estimates, targets, strict=True)]
    np.testing.assert_allclose(parts["l1"], (2 * l1[0] + l1[1] + l1[2]) / 4, rtol=1e-6)
    np.testing.assert_allclose(total, parts["l1"] + 0.25 * parts["ssim"], rtol=1e-6)
    for wrong in ((1.0, 1.0), (0.0, 0.0, 0.0), (2.0, -1.0, 1.0)):
        with pytest.raises(UserError, match="3 scales need as many weights, none below 0 and not all 0"):
            losses.objective(estimates, targets, weights=weights, scale_weights=wrong)


def test_harm_counts_the_pictures_that_lost(noise):
    target, blurred = noise(2, 16, 16, 3), noise(2, 16, 16, 3, seed=1)
    better = 0.5 * (target + blurred)
    assert losses.harm(better, target, blurred) == losses.harm(blurred, target, blurred) == 0
    worse = better.at[1].set(target[1] + 2 * (blurred[1] - target[1]))  # the second of the two
    error = np.mean((np.asarray(blurred) - np.asarray(target))[1] ** 2)
    lost = 10 * np.log10((1 + 4 * error / 1e-5) / (1 + error / 1e-5))
    np.testing.assert_allclose(losses.harm(worse, target, blurred), lost / 2, rtol=1e-5)
    assert np.isfinite(jax.grad(losses.harm)(target, target, target)).all()

    _, parts = losses.objective([worse], [target], weights={"l1": 1.0, "harm": 0.1}, blurred=blurred)
    np.testing.assert_allclose(parts["harm"], lost / 2, rtol=1e-5)
    with pytest.raises(UserError, match="unknown loss 'harm'"):
        losses.objective([worse], [target], weights={"harm": 0.1})


def test_psnr_is_of_the_finest_scale_alone(noise):
    targets = layers.pyramid(noise(2, 32, 32, 3), 2)
    estimates = layers.pyramid(noise(2, 32, 32, 3, seed=1), 2)
    weights = {"l1": 1.0, "psnr": 0.5}
    _, parts = losses.objective(estimates, targets, weights=weights)
    np.testing.assert_allclose(parts["psnr"], losses.psnr(estimates[0], targets[0]), rtol=1e-6)
    _, parts = losses.objective(estimates, targets, weights=weights, scale_weights=(0.0, 1.0))
    assert set(parts) == {"l1"}
    with pytest.raises(UserError, match="nothing to minimise"):
        losses.objective(estimates, targets, weights={"psnr": 1.0}, scale_weights=(0.0, 1.0))


def test_a_misspelt_or_empty_objective_is_refused(noise):
    x = [noise(1, 16, 16, 3)]
    with pytest.raises(UserError, match="unknown loss 'sim'"):
        losses.objective(x, x, weights={"sim": 1.0})
    with pytest.raises(UserError, match="nothing to minimise"):
        losses.objective(x, x, weights={"l1": 0.0})
    with pytest.raises(UserError, match="as many weights"):
        losses.objective(x, x, weights={"l1": 1.0}, scale_weights=(1.0, 1.0))
    with pytest.raises(ValueError, match="a target of"):
        losses.objective(x, [x[0][:, :1]], weights={"l1": 1.0})
    two = layers.pyramid(x[0], 2)
    with pytest.raises(UserError, match="crops of at least 22"):
        losses.objective(two, two, weights={"ssim": 1.0})
    assert losses.objective(two, two, weights={"ssim": 1.0}, scale_weights=(1.0, 0.0))[0] < 1e-5


@pytest.mark.slow
def test_training_in_bf16_has_finite_gradients(noise, random_variables):
    """The whole way: a network in bf16, all losses at once, equal and constant pictures among the inputs."""
    target = noise(1, 64, 64, 3)
    network = MultiScale(MultiScaleConfig(widths=(8, 12), blocks=(1, 1), scales=2), dtype=jnp.bfloat16)
    variables = random_variables(network)

    @jax.jit
    @jax.grad
    def gradient(variables, blurred, target):
        estimates = network.apply(variables, blurred, train=True)
        return losses.objective(estimates, layers.pyramid(target, 2), weights=dict.fromkeys(losses.LOSSES, 1.0))[0]

    flat = jnp.full_like(target, 0.5)
    for blurred, sharp in ((0.8 * target, target), (target, target), (flat, target), (flat, flat)):
        leaves = jax.tree.leaves(gradient(variables, blurred, sharp))
        assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in leaves)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient(variables, 0.8 * target, target)))
