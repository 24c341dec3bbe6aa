"""Medium on REDS, prepared by `deblur data prepare data/reds`.

    deblur train --config configs/reds_medium.py --workdir runs/reds_medium --data PREPARED_REDS

Data: REDS, 240 sequences for training and 30 for validation, 100 frames each (data/reds/README.md).
Cost: not measured.
Result: not measured yet.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "medium"
    config.batch = 32
    config.steps = 300_000
    config.crop = ((0, 256),)
    config.optim.lr = 3e-4
    return config
