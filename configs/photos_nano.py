"""Nano on a folder of sharp photographs.

    deblur train --config configs/photos_nano.py --workdir runs/nano --data PHOTOS

makes the blur inside the training step. On a CPU that takes longer than learning from it, so make pairs once:

    deblur data blur --config configs/photos_nano.py --data PHOTOS --train 14000 --val 192 --out pairs
    deblur data blur --config configs/photos_nano.py:shaken --data PHOTOS --train 12000 --out shaken
    deblur data blur --config configs/photos_nano.py:soft --data PHOTOS --train 7000 --out soft
    deblur data blur --config configs/photos_nano.py:lined --data PHOTOS --train 10000 --out lined
    deblur data blur --config configs/photos_nano.py:kept --data PHOTOS --train 5000 --out kept
    deblur data blur --config configs/photos_nano.py:linear --data PHOTOS --train 11000 --out linear

(each with `--config.crop="((0,128),)"`), and learn from them in four runs, each with
`--config.data.val="('pairs/val',)"` and from the second on with
`--config.data.train="('pairs', 'shaken', 'soft', 'lined', 'kept', 'linear')"` (the first without 'linear'):

    deblur train --config configs/photos_nano.py --workdir first
    deblur train --config configs/photos_nano.py:sharp_too --workdir second --config.start_from=first/final.safetensors
    deblur train --config configs/photos_nano.py:unharmed --workdir third --config.start_from=second/final.safetensors
    deblur train --config configs/photos_nano.py:unharmed --workdir fourth --config.start_from=third/final.safetensors

with `--config.data.weights=` "(0.27, 0.33, 0.15, 0.15, 0.1)", "(0.22, 0.27, 0.12, 0.14, 0.1, 0.15)" and for the third
and fourth "(0.18, 0.26, 0.1, 0.16, 0.18, 0.12)", the fourth with `--config.seed=1`.

Data: some hundred sharp photographs at least (reduced to 1280 pixels a side; at full size they are soft). A fifth of
them, chosen by their names, is kept for validation; data/photos/ lists those of ours.
Cost: 0.15 s a step of 18 pictures of 128 pixels on two CPU cores, from pairs (0.24 beside it before convolutions were
learned by tiles, when the weights below were; 0.17 to 0.21 then on quiet cores); a quarter of an hour for all pairs.
Result: mean gain in dB on groups of `deblur data grid` after each of the four runs, an hour and a half in all; the
fourth is shipped. Beside them what was shipped before, of the shape of configs/ablations/photos_nano.py's baseline
(28 000 steps, two hours, no `linear`):

                        first   second  third   fourth  before
    shakes of 9 to 21   0.76    0.93    0.90    0.90    0.86
    shakes of 21 to 33  0.53    0.66    0.63    0.65    0.66
    defocus, light      -0.22   0.33    0.30    0.28    -0.03
    defocus, moderate   0.98    1.22    1.12    1.13    0.92
    Gaussian, moderate  1.15    1.47    1.33    1.37    1.24
    stored linearly     0.14    0.34    0.29    0.29    0.18
    all blurred ones    0.50    0.66    0.62    0.62    0.51
    sharp, noisy or not -0.54   -0.42   -0.22   -0.29   -0.27
    worst of all pieces -4.82   -4.83   -3.52   -4.03   -4.02
    lose over 0.3 dB    24      16      10      13      19
    sharp above 40 dB           60      60      61      61

Made before dark pictures were brightened for the network (below), and not rounded to 8 bits, as the card's figures are.
The line before the last is of 576 pieces, the last of 61 sharp ones of 384x384 without noise: the third run left one at
39.9 dB, the fourth at 40.1, and is shipped for that; in all else they differ by chance.
Instead of the third, 4000 steps of `sharp_too` at 8e-4 gave 0.94 on shakes, the worst piece -6.59, 59 sharp ones; the
mean of these weights and the second's 0.97, and 25 that lose over 0.3 dB.
How the settings were found, all looked at on this same set, so that its figures flatter them a little: decays of 0.02,
0.2 and 0.6 for 700 steps each (no difference); 0.4, stopped at step 3700 as 3 % of the channels were idle; 0.12 as
above. `lined` was made with one piece in mind that was spoiled (below), `linear` because pictures stored linearly
gained 0.1 to 0.5 dB from shakes where others gained about 1. With the shape before, 10 000 steps more gained nothing,
the means of weights were worse, and pairs of training gained no more than others: what it lacked was not data.

What was seen.
- Channels die. The weights shipped first (29 200 steps of Muon from plain kernels) had 1467 of 1808 channels shut on
  every picture, all but a few at 1/8 and 1/16. So biases and the last layer take a tenth of Muon's step, the kernels
  begin near the identity, and the log counts what is idle: watch it (at most 0.007 here).
- Kernels grow. With a decay of 0.02 activations had reached an rms of 4000 at 1/16 and 9000 at 1/8 after all runs; with
  0.12 they were at most 5. With 0.4 those at 1/16 fell below 0.2, and biases shut channels there.
- One noisy picture of orange columns came back from runs without decay with brown streaks (6.7 dB lost). It stays the
  worst of all (-4.0 dB). Permuting colour channels had no effect.
- The loss `psnr` moves effort from what is hard to what is easy: without it light blur and sharp pictures came back
  worse the longer it learned; hence the second run. The loss `harm` heeds only what came back worse than it went in:
  in place of `psnr` for 600 steps from the first run's end, at 0.006, 9 pieces lose over 0.3 dB and shakes gain 0.49;
  at 0.0015 they are 13 and 0.79 (with `psnr` 20 and 0.81, defocus and Gaussian 0.07 more). In the short runs at the end
  it takes back half of the harm for 0.03 dB of the shakes' gain.
- More of the same is at its end. From the second run's end 22 000 steps more of `sharp_too`, with `psnr` at 0.0015,
  `harm` at 0.001 and 3000 pairs of `shaken_linear` besides (weights 0.2, 0.25, 0.11, 0.13, 0.1, 0.1, 0.11), an hour
  and a quarter: shakes 0.96, longer ones 0.77, Gaussian 1.51, over all 0.67, stored linearly 0.35; but 17 lose over
  0.3 dB, the orange columns 8.0, and 60 of 61 sharp ones are above 40. `unharmed` after it, on crops of 128 and of 256
  pixels (5 of these): shakes 0.92 and 0.94, over all 0.63 and 0.62, 13 and 19 lose, the columns 8.0 and 6.3 dB. The
  mean of its weights and the second run's: shakes 0.95, 37 lose. None of it is shipped.
- The columns, looked into: it is not noise (blurred by a Gaussian of 1 pixel without any they lose 5 to 9 dB), nor the
  saturated colour alone (at a quarter of the saturation nothing is lost, as grey 4 to 6 dB are): 1/16 answers more
  strongly than on the other lightly defocused pieces, and what it hands up is too small for what 1/4 then adds. Of
  3500 steps a fifth from drawn pictures (dead leaves: discs, bars, stripes of all sizes and colours; 5000 pairs)
  changed little: 6.3 dB, 16 lose. Taking from the change what a Gaussian of 4 to 32 pixels keeps of it, as blur keeps
  local means: 2.5 to 3.3 dB, but shakes gain 0.10 to 0.33 dB less.
- Pictures stored linearly want another network, or to be brought into the one there is: led through it as sRGB and
  back, by somebody who knows which they are, those of the set gain 0.44 dB instead of 0.29 (under shakes of 9 to 21
  pixels 0.54 instead of 0.35); the others lose half of their gain so. Brightness does not tell them for sure: a
  quarter of the linear ones has a mean above 0.33, a quarter of the others one below 0.37.
- The mean over the eight flips and turns (`--tta`) gains 0.97 dB on shakes of 9 to 21 pixels, 0.69 over all, and 10
  lose; of the run of 22 000 steps 1.04, 0.75 and 15. With the change made smaller where the eight differ (by their
  variance around a pixel, over the mean square) 8 lose, the worst 2.9 dB, shakes 0.91; by thrice of it 6, 1.3 and
  0.77 dB. So what is lost is partly known to the network, but not for nothing.
- After that run 800 steps of `unharmed` with `psnr` at 0.002, `harm` at 0.008, a rate of 4e-4 and a fifth of `kept`: 7
  lose (the columns 5.6 dB), shakes 0.80, over all 0.56, sharp ones -0.10; the mean of both 12, 0.90, 0.65 and -0.23.
  With Small the same leaves none that loses (configs/photos_small.py).
- A teacher does not help. Of 9700 pairs the sharp picture was replaced by what a better restorer made of the blurry
  one: the mean of Nano over the eight flips and turns and of Small taken up again, which on the set gains 0.95 dB on
  shakes, 0.91 over all, 4 lose. From the shipped weights 10 000 steps of `sharp_too` at 8e-4, half of the pairs with
  the teacher's pictures, 40 minutes: 0.81 on shakes, 0.60 over all, 10 lose (the worst 2.7 dB), 60 of 61 sharp ones
  above 40; after 1200 steps of `unharmed` 0.82, 0.59, 8 (3.4) and 60. The mean of the first's weights and the shipped
  ones 0.64 over all, 12 lose, 60. So it moves along the same line between gain and harm, as with fewer steps.
- So dark pictures are brightened for the network now, here and by `deblur restore` (deblur_jax/filters/dark.py): to a
  median of 0.15, as far as a square root does. The shipped weights learned without. Of the set's pieces 59 are linear
  and darker than that; they gain 0.53 dB instead of 0.38, seven others (sRGB, JPEG) 0.65 as before. Brought to 0.3 as
  many as 106 linear ones gain 0.15 more, but 61 of the others 0.08 less (to 0.25: 96 and 39, 0.15 and 0.06; to 0.2: 78
  and 18, 0.15 and 0.05). An exponent instead of that curve, means instead of medians: 0.01 dB more or less over all. A
  plain factor spoils up to 26 pieces. Told which are linear 0.65 over all and 0.95 on shakes. Small gains 0.22 dB on
  those 59, MAXIM with its authors' weights loses 0.35 dB instead of 0.28 on 20 dark ones: it is not done for networks
  that others trained.
- Learned with it, brought to 0.3, from the shipped weights: 12 000 steps of `sharp_too` at 1e-3 with `psnr` at 0.0018,
  `harm` at 0.0008 and 3000 pairs of `shaken_linear` besides (weights 0.17, 0.24, 0.1, 0.13, 0.12, 0.09, 0.15), an hour
  with other work beside:
                                          over all  shakes  linear  lose  worst  sharp above 40 dB, of 61
    as shipped                            0.63      0.92    0.39    13    -4.0   61
    at 7000 steps                         0.67      0.93    0.44    9     -5.2   60
    at 12 000                             0.67      0.98    0.40    18    -7.1   60
    1500 more, `harm` at 0.005            0.62      0.89    0.43    8     -5.6   61
    the mean of the last two              0.67      0.96    0.43    12    -6.5   60
    the mean of 12 000 and shipped        0.65      1.00    0.34    28    -6.1   59
    2000 more, still at 1e-3              0.61      0.82    0.41    10    -5.4   61
  Linear pictures gain no more by learning so, the decibel on shakes is reached at twice the harm, and the columns come
  back worse than before from all of them. None is shipped.
- Longer still, brightened as by `deblur restore`: from the end of those 12 000 steps 20 400 of `sharp_too` at 1.2e-3 to
  1e-3, averaged by 0.9995, with `psnr` at 0.0018 and `harm` at 0.0015, then 5500 down from 8e-4 with `harm` at 0.003,
  an hour and a half with other work beside: 0.63 over all, 0.89 on shakes, 0.38 on linear ones, 11 lose (the worst
  -5.3), 60 of 61 sharp ones. That is the line between gain and harm again, where the shipped weights are; means with
  these are worse than both (16 and 22 lose, shakes 0.76 and 0.74). Not shipped.
- It is not what it has not seen: of 1341 blurred pairs of training 3.0 % lose more than 0.3 dB, the worst 10.7, of 162
  kept aside 2.5 %. Nor is it told by what it does: how much of its change would be best for each of the set's pieces
  (between none and one and a half of it) is foretold by bands of picture and change, noise and colour, learned on nine
  tenths of the photographs, too badly to help the others (12 lose instead of 13). Told exactly, all gain 0.73 dB
  instead of 0.62, shakes 0.94 instead of 0.90.
- Nor do blurred and restored picture together tell the kernel: solved for by least squares, with the picture then
  deconvolved between both, 0.03 to 0.44 dB over all instead of 0.61, as what it finds is next to no blur. With the true
  kernel such a step would gain 2.6 on shakes.
To try next: from scratch with brightening; decay and `lined` apart. For a decibel on shakes without harm it seems to
take a larger network.
"""

from deblur_jax.train.config import base


def get_config(name: str = "first"):
    config = base()
    config.network = "nano"
    config.dtype = "float32"  # a CPU's
    config.batch = 32
    config.steps = 8000
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
    config.variant = {"branches": False}  # merged from the start: Muon has no need of the branches
    config.optim.name = "muon"
    config.optim.lr = 2e-3
    config.optim.warmup = 200
    config.optim.final = 1.2e-3
    config.optim.weight_decay = 0.12
    config.optim.clip = 0.0
    config.val.every = 1000
    config.val.count = 48
    config.val.side = 128
    if name in ("shaken", "shaken_linear"):  # the pairs of moderate and long shakes
        config.seed = 7
        config.blur.recipe.shares = (
            ("sharp", 0.12),
            ("shake", 0.68),
            ("line", 0.1),
            ("defocus", 0.06),
            ("gaussian", 0.04),
        )
        config.blur.recipe.light_too = False
        config.blur.recipe.extent = (5.0, 26.0)
        config.blur.recipe.linear = 0.12
        if name == "shaken_linear":  # of which those stored linearly gain least
            config.seed = 23
            config.blur.recipe.linear = 1.0
    elif name == "soft":  # those out of focus
        config.seed = 11
        config.blur.recipe.shares = (
            ("sharp", 0.12),
            ("defocus", 0.36),
            ("aperture", 0.1),
            ("gaussian", 0.3),
            ("anisotropic", 0.12),
        )
    elif name == "lined":  # pictures made narrower or lower, whose long thin things are no traces of motion
        config.seed = 13
        config.data.shrink = 4.0
        config.blur.recipe.shares = (
            ("sharp", 0.15),
            ("shake", 0.3),
            ("line", 0.1),
            ("defocus", 0.2),
            ("aperture", 0.05),
            ("gaussian", 0.15),
            ("anisotropic", 0.05),
        )
    elif name == "kept":  # sharp pictures with little noise, soft backgrounds and all, which must come back as they are
        config.seed = 17
        config.blur.recipe.shares = (("sharp", 1.0),)
        config.blur.recipe.gain = (0.0, 0.0008)
        config.blur.recipe.read = (0.0, 0.0015)
    elif name == "linear":  # all stored linearly, which the network helps least
        config.seed = 19
        config.blur.recipe.linear = 1.0
    elif name in ("sharp_too", "unharmed"):  # the later runs, which heed sharp and nearly sharp pictures as well
        config.steps = 16_000
        config.batch = 18
        config.crop = ((0, 128),)
        config.loss.psnr = 0.002
        config.optim.lr = 1.2e-3
        config.optim.final = 1e-6
        config.optim.warmup = 50
        config.val.count = 192
        if name == "unharmed":
            config.steps = 1200
            config.loss.psnr = 0.001
            config.loss.harm = 0.002
            config.optim.lr = 5e-4
    elif name != "first":
        raise KeyError(name)
    return config
