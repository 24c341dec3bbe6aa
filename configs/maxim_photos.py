"""MAXIM S-3 taught further on photographs, blurred inside the training step, from its authors' weights for GoPro.

    deblur weights fetch maxim-gopro
    deblur train --config configs/maxim_photos.py --workdir runs/maxim_photos --data PHOTOS \
        --config.start_from=maxim-gopro

GoPro has moving cameras in linear light without compression; photographs have defocus, noise, highlights and JPEG too.

Data: sharp photographs in a folder; a tenth of them is kept for validation.
Cost: not measured on an accelerator. On two CPU cores, with other work beside, four steps of one crop of 64 from pairs
(`--config.dtype=float32 --config.batch=1 --config.crop="((0,64),)" --config.remat=False`) took 4 minutes of compiling,
then 9 to 20 s each.
Result: only these four steps were seen: the loss is finite, checkpoints and weights are written.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "maxim"
    config.variant = {"coarse_outputs": False}
    config.batch = 16
    config.remat = True
    config.steps = 50_000
    config.crop = ((0, 256),)
    config.blur.recipe = {
        "shares": (("sharp", 0.1), ("line", 0.15), ("shake", 0.5), ("defocus", 0.15), ("gaussian", 0.1))
    }
    config.loss.l1 = 0.0
    config.loss.ssim = 0.0
    config.loss.charbonnier = 1.0
    config.loss.frequency = 0.1
    config.optim.lr = 1e-4
    config.optim.warmup = 1000
    config.optim.final = 1e-7
    return config
