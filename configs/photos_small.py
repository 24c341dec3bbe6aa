"""Small on a folder of sharp photographs; the blur is made inside the training step.

    deblur train --config configs/photos_small.py --workdir runs/small --data PHOTOS

It stops at SIGTERM with exit code 75, and the same command goes on from there, so a stay on an accelerator may be as
short as ten minutes: `timeout -s TERM 580 deblur train ...`, as often as needed.

Data: as photos_nano. With files of recorded camera motion (TUM-VI's, as data/photos/README.md says) add
`--config.blur.poses="('ROOM1.txt',)"` and the kind "recorded" to `config.blur.recipe.shares`.
Cost: on two CPU cores 1.9 s a step of 8 crops of 96, in float32 from pairs; not measured on an accelerator.
Result: only begun, and no weights are shipped. The coarsest scale alone (`--config.scales="(0,0,1)"`, five times as
many crops a second as with the others) from the pairs of photos_nano (`--config.dtype=float32 --config.batch=16
--config.crop="((0,96),)" --config.loss.ssim=0.0`) gains 0.69 dB on moderate shakes of `deblur data grid`, seen at a
quarter of the size, after 1000 steps of the 4200 planned (nine minutes), and not one channel is shut. (There biases
and the last layer took a fifth of Muon's step; now it is a tenth.) Before, Small did not learn from shakes: 3400 steps
of all scales (Muon at 1e-3 and 1.5e-3, with the loss `psnr`) gained 0.31 dB there at full size, and looking into it
showed 234 of 416 ReLUs of the coarsest scale shut; 2500 steps of that scale alone without `psnr`, at 1e-3 and 8 crops,
shut all but a few, too (0.17 dB at a quarter), and 400 at 3e-3 nearly all, whatever the steps of the last layer: the
rate matters as well. The log counts idle channels: watch it. (These runs had a decay of 0.02; with Nano's 0.12, all of
photos_nano's pairs and a cosine over 7000 steps it was 0.44 after 1000 steps, at nearly the full rate, no channel shut.
Nano gains 1.30 there.) So: the coarsest scale first, then `--config.scales="(0,1,1)"`, then all with
`--config.loss.psnr=0.002`, each from the last one's final.safetensors.
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
    config.optim.name = "muon"
    config.optim.lr = 7e-4
    config.optim.warmup = 300
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
