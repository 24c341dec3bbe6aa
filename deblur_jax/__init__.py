"""Image and video deblurring in JAX/Flax.

Pictures are float32, NHWC, RGB, sRGB-encoded, in [0, 1]. Functions that draw random numbers take
`key` first; options are keyword-only; nothing but `weights.library` reads the environment, nothing keeps global state.
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`deblur_jax.Restorer`, without making every import of the package a heavy one."""
    if name == "Restorer":
        from deblur_jax.restore.restorer import Restorer

        return Restorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
