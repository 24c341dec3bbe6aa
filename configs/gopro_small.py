"""Small on GoPro, prepared by `deblur data prepare data/gopro`.

    deblur train --config configs/gopro_small.py --workdir runs/gopro_small --data PREPARED_GOPRO

Data: GoPro, 2103 pairs for training (data/gopro/README.md). It has no split val: name other pairs by
--config.data.val=DIR, or PREPARED_GOPRO itself for its test pairs, knowing that the best checkpoint is then
chosen by them.
Cost: not measured.
Result: not measured yet.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "small"
    config.batch = 32
    config.steps = 300_000
    config.crop = ((0, 256),)
    config.optim.lr = 3e-4
    return config
