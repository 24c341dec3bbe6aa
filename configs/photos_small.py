"""Small on a folder of sharp photographs; the blur is made inside the training step.

    deblur train --config configs/photos_small.py --workdir runs/small --data PHOTOS

It stops at SIGTERM with exit code 75, and the same command goes on from there, so a stay on an accelerator may be as
short as ten minutes: `timeout -s TERM 580 deblur train ...`, as often as needed.

Data: as photos_nano. With files of recorded camera motion (TUM-VI's, as data/photos/README.md says) add
`--config.blur.poses="('ROOM1.txt',)"` and the kind "recorded" to `config.blur.recipe.shares`.
Cost: on two CPU cores 1.9 s a step of 8 crops of 96, in float32 from pairs; not measured on an accelerator.
Result: only begun. 1000 steps of all scales from the pairs of photos_nano (`--config.dtype=float32 --config.batch=8
--config.crop="((0,96),)" --config.loss.ssim=0.0 --config.loss.psnr=0.002 --config.optim.name=muon
--config.optim.lr=1e-3`, half an hour) gained 0.65 dB on `deblur data grid`; Nano, of sixty times as many pixels, gains
0.39. But most of it was noise removed: on shakes of 9 to 21 pixels 0.21 dB, where Nano has 0.48. 2400 more brought
0.31, and looking into the network showed why: the coarsest scale was dead, 234 of the 416 ReLUs of its blocks 1 to 4
shut on all of 16 pictures. The loss `psnr`, then of every scale, had done it: at a quarter of the size nearly sharp
pictures have next to no error, so that its gradient was theirs alone, and leaving them alone is best done by doing
nothing. It is of the finest scale alone now. At a quarter of the size, from scratch, 300 steps of 16 crops of the
coarsest scale alone (`--config.scales="(0,0,1)"`, five times as many crops a second as with the others) gain 0.12 dB on
these shakes with it at 0.001 (0.13 at a rate of 4e-4; 0.12 with leaky ReLUs), 0.23 without; Nano, seen at that size,
0.31 after as many (all its blocks at a quarter) and 0.85 as shipped. None of these weights is shipped.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "small"
    config.batch = 32
    config.steps = 200_000
    config.crop = ((0, 192), (100_000, 256))
    config.data.max_side = 1280
    config.data.aside = 0.2
    config.data.keep_gb = 2.0
    config.optim.lr = 3e-4
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
