"""Medium on a folder of sharp photographs; the blur is made inside the training step.

    deblur train --config configs/photos_medium.py --workdir runs/medium --data PHOTOS

It stops at SIGTERM with exit code 75, and the same command goes on from there, so a stay on an accelerator may be as
short as ten minutes: `timeout -s TERM 580 deblur train ...`, as often as needed.

Data: as photos_nano. With files of recorded camera motion (TUM-VI's, as data/photos/README.md says) add
`--config.blur.poses="('ROOM1.txt',)"` and the kind "recorded" to `config.blur.recipe.shares`.
Cost: not measured.
Result: not measured yet. Watch `idle` in the log, and go about it as photos_small says: the coarsest scale first.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "medium"
    config.batch = 32
    config.steps = 200_000
    config.crop = ((0, 192), (100_000, 256))
    config.data.max_side = 1280
    config.data.aside = 0.2
    config.data.keep_gb = 2.0
    config.optim.name = "muon"
    config.optim.lr = 5e-4
    config.optim.warmup = 500
    config.optim.weight_decay = 0.12
    config.optim.clip = 0.0
    # Sharp and nearly sharp pictures must come back unharmed, and linearly stored ones no worse.
    config.blur.recipe = {
        "shares": (
            ("sharp", 0.1),
            ("line", 0.05),
            ("shake", 0.4),
            ("layers", 0.15),
            ("defocus", 0.1),
            ("aperture", 0.05),
            ("gaussian", 0.05),
            ("anisotropic", 0.05),
            ("turbulence", 0.05),
        ),
        "light_too": True,
        "extent": (2.0, 32.0),
        "radius": (0.7, 8.0),
        "sigma": (0.4, 4.0),
        "kernel_size": 33,
        "linear": 0.15,
    }
    return config
