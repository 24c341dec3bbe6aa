"""The networks: one file each, in Flax Linen. `zoo.py` lists them; `layers.py` is what they share.

A network is a frozen config with named constructors and a module. Modules take `(b h w 3)` pictures of
any size in [0, 1] and return one estimate, or with `train=True` a tuple of estimates, finest scale first.
"""
