"""What training minimises. Every loss is a mean over everything, in float32 whatever comes in.

All have finite gradients where prediction and target are equal, and on constant pictures.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from deblur_jax import metrics
from deblur_jax.errors import UserError
from deblur_jax.filters import laplacian

__all__ = ["LOSSES", "charbonnier", "edge", "frequency", "harm", "l1", "mse", "objective", "psnr", "ssim"]

_Loss = Callable[[Float[Array, "b h w c"], Float[Array, "b h w c"]], Float[Array, ""]]


def _difference(a: Array, b: Array) -> Array:
    return a.astype(jnp.float32) - b.astype(jnp.float32)


def l1(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """Mean absolute error."""
    return jnp.mean(jnp.abs(_difference(prediction, target)))


def mse(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """Mean squared error."""
    return jnp.mean(_difference(prediction, target) ** 2)


def charbonnier(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """The smooth L1 of Lai et al. 2017: sqrt(d^2 + eps^2), eps = 1e-3."""
    return jnp.mean(jnp.sqrt(_difference(prediction, target) ** 2 + 1e-6))


def ssim(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """1 - SSIM."""
    return 1.0 - jnp.mean(metrics.ssim(prediction, target))


def psnr(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """Decibels that the pictures' PSNR lacks to 50, in the mean over pictures (Chen et al. 2021's, from 50 dB down).

    The others count a decibel of a picture full of texture for many of a smooth or sharp one; this counts them alike.
    """
    return jnp.mean(_lacking(prediction, target))


def harm(
    prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"], blurred: Float[Array, "b h w c"]
) -> Float[Array, ""]:
    """As `psnr`, but only the decibels that pictures lost: what is better than the blurred picture counts nothing."""
    return jnp.mean(jnp.maximum(_lacking(prediction, target) - _lacking(blurred, target), 0.0))


def _lacking(a: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    return 10.0 * jnp.log10(1.0 + jnp.mean(_difference(a, target) ** 2, axis=(1, 2, 3)) / 1e-5)


def frequency(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """L1 between the spectra, real and imaginary parts apart, as MIMO-UNet (Cho et al. 2021).

    The transform is orthonormal, so that the loss does not grow with the size of the crop.
    """
    # The transform of a real picture repeats itself: half of it has the same mean, nearly.
    spectrum = jnp.fft.rfft2(_difference(prediction, target), axes=(1, 2), norm="ortho")
    # abs of a complex number has no gradient at zero; its parts do.
    return 0.5 * (jnp.mean(jnp.abs(spectrum.real)) + jnp.mean(jnp.abs(spectrum.imag)))


def edge(prediction: Float[Array, "b h w c"], target: Float[Array, "b h w c"]) -> Float[Array, ""]:
    """Charbonnier between the Laplacians, after MPRNet (Zamir et al. 2021)."""
    return charbonnier(laplacian(prediction.astype(jnp.float32)), laplacian(target.astype(jnp.float32)))


LOSSES: dict[str, _Loss] = {
    "l1": l1,
    "mse": mse,
    "charbonnier": charbonnier,
    "ssim": ssim,
    "psnr": psnr,
    "frequency": frequency,
    "edge": edge,
}


def objective(
    estimates: Sequence[Float[Array, "b _h _w c"]],
    targets: Sequence[Float[Array, "b _h _w c"]],
    *,
    weights: Mapping[str, float],
    scale_weights: Sequence[float] | None = None,
    blurred: Float[Array, "b h w c"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted sum of losses over all scales, finest first, and its parts by name (unweighted losses).

    `weights` are by the names of `LOSSES`; a weight of 0 leaves the loss out. "harm" needs the `blurred` pictures.
    `scale_weights` are normalised to sum to one (equal by default), so that runs with one and three scales compare.
    `psnr` and `harm` are of the finest scale alone: on coarse ones nearly sharp pictures have next to no error, and
    their logarithm would heed only these.
    """
    losses = LOSSES if blurred is None else {**LOSSES, "harm": functools.partial(harm, blurred=blurred)}
    if unknown := sorted(set(weights) - set(losses)):
        raise UserError(f"unknown loss {unknown[0]!r}; there are {', '.join(losses)}")
    if len(estimates) != len(targets):
        raise ValueError(f"{len(estimates)} estimates but {len(targets)} targets")
    scale_weights = [1.0] * len(estimates) if scale_weights is None else list(scale_weights)
    if len(scale_weights) != len(estimates) or min(scale_weights) < 0 or sum(scale_weights) == 0:
        raise UserError(f"{len(estimates)} scales need as many weights, none below 0 and not all 0: {scale_weights}")
    for estimate, target in zip(estimates, targets, strict=True):
        if estimate.shape != target.shape:  # never broadcast: a wrong target would give a plausible loss
            raise ValueError(f"an estimate of shape {estimate.shape} but a target of {target.shape}")
    scales = [min(target.shape[1:3]) for target, weight in zip(targets, scale_weights, strict=True) if weight]
    if weights.get("ssim") and (smallest := min(scales)) < 11:
        finest = min(targets[0].shape[1:3])
        raise UserError(
            f"the SSIM loss needs 11 pixels at every scale; crops of {finest} leave {smallest} at the coarsest: "
            f"take crops of at least {11 * finest // smallest}, or weight 0"
        )
    shares = [w / sum(scale_weights) for w in scale_weights]
    finest = [float(shares[0] > 0)] + [0.0] * (len(shares) - 1)

    parts = {
        name: sum(
            (s * losses[name](e, t) for s, e, t in zip(of_scales, estimates, targets, strict=True) if s),
            jnp.zeros(()),
        )
        for name, weight in weights.items()
        if weight and any(of_scales := finest if name in ("psnr", "harm") else shares)
    }
    if not parts:
        raise UserError("every loss has weight 0: nothing to minimise")
    return sum((weights[name] * part for name, part in parts.items()), jnp.zeros(())), parts
