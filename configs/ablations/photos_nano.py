"""One change each against the first run of configs/photos_nano.py with Nano's shape of before, and other shapes.

    deblur train --config configs/ablations/photos_nano.py:muon_fast --workdir runs/muon_fast --data PAIRS

Data: the first four sets of pairs of configs/photos_nano.py, with its weights.
Cost: 0.25 s a step on two quiet CPU cores; for the table 800 steps each (`--config.steps=800`), three to five minutes.
Result: mean gain in dB on groups of `deblur data grid`, of the averaged weights. The second row shows what is chance.

                        all     shakes   defocus   Gaussian  sharp,     worst
                        blurred 9 to 21  moderate  moderate  noisy too  piece
    baseline            0.26    0.28     0.44      0.60      -0.13      -2.3
    baseline, seed 1    0.28    0.25     0.48      0.68      -0.19      -2.2
    without_ema         0.26    0.28     0.43      0.59      -0.12      -2.4
    as_wide_as_blocks   0.32    0.32     0.58      0.75      -0.35      -2.3
    two_levels          0.31    0.32     0.51      0.72      -0.81      -3.8
    quarter_alone       0.33    0.32     0.64      0.85      -1.14      -3.7
    no_sixteenth        0.28    0.26     0.51      0.69      -0.57      -3.1
    to_a_thirty_second  0.27    0.27     0.45      0.64      -0.13      -2.3
    with_psnr           0.22    0.15     0.43      0.62      -0.03      -1.5
    with_ssim           0.27    0.24     0.46      0.66      -0.31      -2.5
    frequency_loss      0.27    0.27     0.45      0.63      -0.15      -2.4
    muon_fast           0.26    0.25     0.47      0.63      -0.12      -2.0
    crops_64            0.28    0.27     0.50      0.69      -0.30      -2.8
    progressive_crops   0.25    0.24     0.41      0.62      -0.17      -2.2

Of the settings little decides: on blurred pictures SSIM, a loss on frequencies, the averaging of weights, the size of
crops, twice the rate and a level more lie within the chance of a seed (SSIM and small crops spare sharp ones less). The
loss `psnr` costs shakes and spares sharp pictures, as in the long runs. Of the shapes those learn faster that are at
quarter size as wide as the 4x4 blocks have values (48, where the others have 32), and those with deep levels sharpen
least what was sharp: as_wide_as_blocks has both, and is Nano's shape now. Its first long run of 8000 steps came to 0.76
dB on these shakes and 0.50 over all, the baseline's to 0.63 and 0.46 (with a tenth of `kept` pairs besides, which the
baseline's had not). progressive_crops were of 64 pixels for 400 steps, then of 96. easy_first needs blur made inside
the step: 800 steps of configs/photos_nano.py on photographs, six minutes, with strengths that grow over 400 steps
(`--config.blur.grow=400`) 0.35 over all, 0.20 on shakes, 0.77, 1.01, -0.50 and -2.8 in the other columns, without 0.33,
0.23, 0.71, 0.91, -0.41 and -3.0: it learns the light blur that it sees more of. Gates, which let the deep levels scale
the fine features that they join by 0 to 2, or those after each block too, gained nothing in 1000 steps of Nano's shape
now with the pairs of its first run: 0.30 and 0.28 over all and 0.35 and 0.33 on shakes, without them 0.31 and 0.37.

On another day, from the same recipes' pairs made anew, with the baseline of that day:

    baseline            0.26    0.31     0.35      0.57      -0.25      -2.3
    adamw               0.19    0.19     0.26      0.41      -0.56      -2.8
    charbonnier         0.26    0.34     0.33      0.55      -0.28      -2.5
    muon_slow           0.21    0.26     0.23      0.40      -0.35      -2.3
    branches            0.12    0.13     0.15      0.22      -0.45      -1.3

In so few steps Muon is ahead of AdamW and of a third of its own rate, Charbonnier is as good as L1, and with the
branches, under Muon, half of the gain is missing.
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
    # Where the width and the depth are. The baseline's is most at 1/16: 10.6 kMAC a pixel.
    "as_wide_as_blocks": {  # 10.4
        "variant.widths": (48, 64, 96),
        "variant.down_blocks": (1, 1),
        "variant.middle_blocks": 4,
        "variant.up_blocks": (2, 2),
    },
    "two_levels": {  # 10.0
        "variant.widths": (48, 96),
        "variant.down_blocks": (1,),
        "variant.middle_blocks": 3,
        "variant.up_blocks": (1,),
    },
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
    config.variant = {
        "branches": False,
        "widths": (32, 64, 128),
        "down_blocks": (2, 2),
        "middle_blocks": 6,
        "up_blocks": (2, 2),
    }
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
