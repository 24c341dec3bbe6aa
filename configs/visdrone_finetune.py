"""Small taught further on aerial frames: VisDrone's sharp ones, blurred inside the training step.

    deblur train --config configs/visdrone_finetune.py --workdir runs/visdrone --data PREPARED_VISDRONE \
        --config.start_from=runs/reds_small

Data: VisDrone, prepared by `deblur data prepare data/visdrone` (data/visdrone/README.md).
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
    # A drone shakes and flies on; nothing near is out of focus.
    config.blur.recipe = {"shares": (("sharp", 0.05), ("line", 0.35), ("shake", 0.4), ("gaussian", 0.2))}
    return config
