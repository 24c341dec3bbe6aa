"""Small on a folder of sharp photographs; the blur is made inside the training step.

    deblur train --config configs/photos_small.py --workdir runs/small --data PHOTOS

Data: as photos_nano.
Cost: not measured.
Result: not measured yet.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "small"
    config.batch = 32
    config.steps = 200_000
    config.crop = ((0, 192), (100_000, 256))
    config.data.max_side = 1280
    config.optim.lr = 3e-4
    return config
