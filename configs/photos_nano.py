"""Nano on a folder of sharp photographs; the blur is made inside the training step.

    deblur train --config configs/photos_nano.py --workdir runs/nano --data PHOTOS

Data: some hundred sharp photographs at least (reduced to 1280 pixels a side; at full size they are soft). A tenth of
them, chosen by their names, is kept for validation.
Cost: not measured at full length.
Result: not measured yet.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "nano"
    config.batch = 16
    config.steps = 200_000
    config.crop = ((0, 128), (100_000, 192))
    config.data.max_side = 1280
    config.optim.lr = 5e-4  # 2e-3 ends in a network that returns its input
    config.loss.ssim = 0.1
    return config
