"""Nano on a folder of sharp photographs.

    deblur train --config configs/photos_nano.py --workdir runs/nano --data PHOTOS

makes the blur inside the training step. On a CPU that takes longer than learning from it, so make pairs once:

    deblur data blur --config configs/photos_nano.py --data PHOTOS --train 12800 --val 192 \\
        --config.crop="((0,128),)" --out pairs
    deblur train --config configs/photos_nano.py --workdir runs/nano --data pairs

Data: some hundred sharp photographs at least (reduced to 1280 pixels a side; at full size they are soft). A fifth of
them, chosen by their names, is kept for validation; data/photos/ lists those of ours.
Cost: 0.3 s a step on two quiet CPU cores, from pairs. On Linux `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` before the
command takes about a tenth off: a step gets 30 000 small pages from the system, or some hundred large ones.
Result: 6500 steps from pairs, +0.35 dB on shakes of 9 to 21 pixels (deblur_jax/weights/bundled/nano.md). A learning
rate of 3e-3 diverged after 1375 steps. AdamW with branches, at 5e-4: +0.33 dB after 5000 steps, each a third shorter;
at 1e-3 the network died within 1000 and returned its input. Going on from there with 9500 steps of 16 crops of 64
(the last 800 of 96) at 1.5e-3: +0.42 dB, defocus +0.94 where it was +0.76, but sharp pictures came back at 45 dB, not
54 (medians). The loss `psnr` moves effort from what is hard to what is easy: 2400 steps with it at 0.01 beside L1,
without SSIM, brought sharp pictures to 59 dB, defocus to +0.96, Gaussians to +1.12, and shakes down to +0.32. With it
at 0.002, 32 crops of 96 and more shaken pairs, 1200 steps: shakes +0.46, pictures stored linearly +0.15, defocus
+0.81. What light blur, linear pictures and low contrast lose showed only on `deblur data grid`: there the first
weights gain 0.23 dB on average, and make 40 of 576 blurred pieces worse by more than 0.3 dB. 9600 more steps, from
the 3737th on with pairs as below, gain 0.39 dB, with 18 such pieces; sharp pictures then come back at 53 dB (median),
35 of 42 above 40 dB.
"""

from deblur_jax.train.config import base


def get_config():
    config = base()
    config.network = "nano"
    config.dtype = "float32"  # a CPU's
    config.batch = 32
    config.steps = 20_000
    config.crop = ((0, 96),)
    config.data.max_side = 1280
    config.data.aside = 0.2
    config.data.keep_gb = 2.0
    config.data.threads = 2
    # What moves is most of what people have, and each kind that is left out makes the step cheaper: on a CPU layers and
    # moving air would take longer than the network.
    config.blur.recipe = {
        "shares": (
            ("sharp", 0.12),
            ("shake", 0.44),
            ("line", 0.12),
            ("defocus", 0.12),
            ("aperture", 0.05),
            ("gaussian", 0.1),
            ("anisotropic", 0.05),
        ),
        "light_too": True,
        "extent": (2.0, 30.0),
        "radius": (0.7, 7.0),
        "sigma": (0.4, 4.0),
        "views": 32,
        "kernel_size": 33,
        "gain": (0.0, 0.0025),
        "read": (0.0, 0.0045),
        "compressed": 0.25,
        "jpeg_quality": (60.0, 96.0),
        "other_gamma": 0.08,
        "linear": 0.2,
    }
    config.loss.ssim = 0.0
    config.loss.psnr = 0.002
    config.variant = {"branches": False}  # merged from the start: Muon has no need of the branches
    config.optim.name = "muon"
    config.optim.lr = 1.5e-3
    config.optim.warmup = 300
    config.optim.weight_decay = 0.1
    config.optim.clip = 0.0
    config.val.every = 1000
    config.val.count = 48
    config.val.side = 128
    return config
