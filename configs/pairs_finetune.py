"""Small taught further on pairs of your own: a folder with blur/ and sharp/.

    deblur train --config configs/pairs_finetune.py --workdir runs/mine --data PAIRS --config.start_from=WEIGHTS

Data: a tenth of the sequences (or of the pictures, if there are none) is kept for validation, unless there is a val/.
Cost: not measured.
Result: not measured yet.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "small"
    config.batch = 16
    config.steps = 20_000
    config.optim.lr = 1e-4
    config.optim.warmup = 500
    return config
