"""Image and video deblurring in JAX/Flax.

Pictures are float32, NHWC, RGB, sRGB-encoded, in [0, 1]. Functions that draw random numbers take
`key` first; options are keyword-only; nothing reads the environment or keeps global state.
"""

__version__ = "0.1.0"
