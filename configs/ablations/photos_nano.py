"""One change each against configs/photos_nano.py, and shapes of Nano of about the same cost.

    deblur train --config configs/ablations/photos_nano.py:muon_fast --workdir runs/muon_fast --data PAIRS

Data: pairs made once by `deblur data blur --config configs/photos_nano.py`, as its docstring says.
Cost: 0.3 s a step on two CPU cores; 2000 steps.
Result: none that holds. Where the depth lies seemed not to decide (1000 steps: baseline 0.278 dB on 192 crops kept
aside, quarter_alone 0.253, no_sixteenth 0.258, to_a_thirty_second 0.276) because the deep levels were dead;
configs/photos_nano.py says how that was found and mended. What was learned by hand since stands there, too.
"""

from deblur_jax.train.config import base

ABLATIONS = {
    "baseline": {},
    "adamw": {"optim.name": "adamw", "optim.lr": 5e-4, "optim.weight_decay": 1e-4},
    "muon_fast": {"optim.lr": 4e-3},
    "muon_slow": {"optim.lr": 7e-4},
    "branches": {"variant.branches": True},
    "with_ssim": {"loss.ssim": 0.05},
    "with_psnr": {"loss.psnr": 0.002},
    "frequency_loss": {"loss.frequency": 0.1},
    "charbonnier": {"loss.l1": 0.0, "loss.charbonnier": 1.0},
    "without_ema": {"ema": 0.0},
    "crops_64": {"crop": ((0, 64),), "batch": 72},
    "progressive_crops": {"crop": ((0, 64), (1500, 96))},
    "easy_first": {"blur.grow": 1000},  # where the blur is made inside the step
    # Where the depth is. Most at 1/16, as shipped: 10.6 kMAC a pixel.
    "quarter_alone": {  # 10.4
        "variant.widths": (48,),
        "variant.down_blocks": (),
        "variant.middle_blocks": 6,
        "variant.up_blocks": (),
    },
    "no_sixteenth": {  # 9.6
        "variant.widths": (32, 64),
        "variant.down_blocks": (4,),
        "variant.middle_blocks": 5,
        "variant.up_blocks": (4,),
    },
    "to_a_thirty_second": {  # 9.9
        "variant.widths": (32, 64, 128, 256),
        "variant.down_blocks": (2, 1, 1),
        "variant.middle_blocks": 4,
        "variant.up_blocks": (2, 1, 1),
    },
}


def get_config(name: str = "baseline"):
    config = base()
    config.network = "nano"
    config.variant = {"branches": False}
    config.dtype = "float32"
    config.batch = 32
    config.steps = 2000
    config.crop = ((0, 96),)
    config.data.max_side = 1280
    config.data.aside = 0.2
    config.loss.ssim = 0.0
    config.optim.name = "muon"
    config.optim.lr = 2e-3
    config.optim.warmup = 100
    config.optim.weight_decay = 0.12
    config.optim.clip = 0.0
    config.val.side = 128
    for field, value in ABLATIONS[name].items():
        *parents, last = field.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[last] = value
    return config
