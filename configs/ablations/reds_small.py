"""One change each against configs/reds_small.py.

    deblur train --config configs/ablations/reds_small.py:without_ssim --workdir runs/without_ssim --data PREPARED_REDS

Data: REDS, as configs/reds_small.py; `synthetic_blur` wants REDS' sharp frames alone, as photographs in a folder.
Cost: each not measured; a third of the steps of a full run.
Result: none measured on REDS yet; uniform widths on photographs, for half an hour: configs/photos_small.py.
"""

from deblur_jax.train.config import base

ABLATIONS = {
    "baseline": {},
    "uniform_widths": {"network": "small_uniform"},
    "without_ssim": {"loss.ssim": 0.0},
    "ssim_half": {"loss.ssim": 0.05},
    "ssim_double": {"loss.ssim": 0.2},
    "ssim_ten_times": {"loss.ssim": 1.0},
    "frequency_loss": {"loss.frequency": 0.1},
    "single_scale": {"variant.scales": 1},
    "two_scales": {"variant.scales": 2},
    "pass_features": {"variant.passes": "features"},
    "sobel_input": {"variant.sobel_input": True},
    "kernel_5": {"variant.kernel_size": 5},
    "without_residual": {"variant.global_residual": False},
    "progressive_crops": {"crop": ((0, 128), (40_000, 192), (70_000, 256))},
    "without_ema": {"ema": 0.0},
    "synthetic_blur": {"data.max_side": 1280},
}


def get_config(name: str = "baseline"):
    config = base()
    config.network = "small"
    config.batch = 32
    config.steps = 100_000
    config.crop = ((0, 256),)
    config.optim.lr = 3e-4
    for field, value in ABLATIONS[name].items():
        *parents, last = field.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config
