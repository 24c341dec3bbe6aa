"""The bundled Nano taught further on pairs of your own: a folder with blur/ and sharp/.

    deblur train --config configs/pairs_finetune.py --workdir runs/mine --data PAIRS
    deblur restore PHOTO -o SHARP --model runs/mine

For another network copy this file and change `network`, `variant` and `start_from`.

Data: a tenth of the sequences (or of the pictures, if there are none) is kept for validation, unless there is a val/.
Cost: 0.12 s a step on two CPU cores.
Result: not measured yet.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "nano"
    config.variant = {"branches": False}  # what is shipped has none
    config.start_from = "nano"
    config.dtype = "float32"
    config.batch = 16
    config.steps = 2_000
    config.crop = ((0, 96),)
    config.optim.name = "muon"
    config.optim.lr = 3e-4
    config.optim.warmup = 100
    config.val.every = 500
    return config
