"""What a run is: `base()` has every field, the files in `configs/` change some, the command line changes more."""

import ast
import difflib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from deblur_jax.errors import UserError

Config = Any  # a ConfigDict, whose fields are of any type


def base() -> Config:
    """Every field with its default. Tuples are given whole on the command line: --config.crop='((0, 256),)'."""
    return ConfigDict(
        {
            "network": "small",
            "variant": {},  # fields of the network's own config that differ, for ablations
            "start_from": "",  # weights to begin with: a file or another run's workdir
            "seed": 0,
            "steps": 100_000,
            "batch": 16,  # pictures a step, of all devices together
            "at_once": 0,  # pictures a step may hold together; more are accumulated. 0: all
            "dtype": "bfloat16",  # of the computation; parameters, optimiser and losses are float32
            "remat": False,  # compute activations anew in the backward pass: less memory, more time
            "crop": ((0, 256),),  # (from step, side)
            "data": {
                "train": (),  # folders: prepared datasets, blur/ and sharp/, photographs, clips
                "weights": (),  # of the folders; (): by their sizes
                "val": (),  # (): the split val of those of train, or `aside` of their photographs or clips
                "aside": 0.1,  # chosen by their names; where `val` names others, none: all are trained on
                "frames": 1,  # neighbouring ones, whose mean is the blurred picture: the recipe's kind "frames"
                "max_side": 0,  # photographs are reduced to this first; 0: never
                "shrink": 1.0,  # their height and width, each for itself, by up to this: thin lines, other proportions
                "threads": 4,
                "workers": 0,
                "keep_gb": 0.0,  # of decoded pictures held in memory, where a few photographs are read again and again
            },
            "blur": {  # for pictures without a blurred partner: fields of blur.synthesis.Recipe that differ
                "recipe": {},
                "grow": 0,  # steps over which its strengths grow from a quarter of their ranges to all; 0: none
                "poses": (),  # files of recorded camera motion, for the kind "recorded"
                "pose_axes": "x y z",
            },
            "loss": {
                "l1": 1.0,
                "ssim": 0.1,
                "psnr": 0.0,
                "harm": 0.0,
                "mse": 0.0,
                "charbonnier": 0.0,
                "frequency": 0.0,
                "edge": 0.0,
            },
            # Weights of the scales in the losses, finest first; (): all alike. What only serves scales of weight 0 is
            # not computed (the log's utilisation counts it): the coarse ones, which cost least, can be taught first.
            "scales": (),
            "optim": {
                "name": "adamw",  # or "muon": fewer steps for small networks, each a little longer
                "lr": 5e-4,
                "warmup": 1000,
                "final": 1e-6,  # where the cosine ends
                "betas": (0.9, 0.99),
                "weight_decay": 1e-4,
                "clip": 1.0,  # of the gradient's norm; 0: never
            },
            "ema": 0.999,
            "mesh": {"data": -1, "fsdp": 1, "space": 1},  # -1: all devices that are left
            "log_every": 50,
            "val": {"every": 1000, "count": 16, "side": 256, "pictures": 4},
            "checkpoint": {"every": 1000, "keep": 2},
            "diverged": 20.0,  # a loss this many times its running mean ends the run, or goes back (--on-nan); 0: never
        }
    )


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config of a file, changed by `name.of.field=value` and then complete and fixed.

    `FILE:NAME` hands the name to the file's `get_config`.
    """
    file, colon, name = str(path).rpartition(":")
    path = Path(file if colon and not Path(path).exists() else path)
    if not path.is_file():
        raise UserError(f"{path}: no such config file")
    spec = importlib.util.spec_from_file_location("config", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: a config is a Python file, NAME.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(name) if colon else module.get_config()
    except KeyError as error:
        raise UserError(f"{path}: has no {error.args[0]!r}") from error
    except Exception as error:
        why = str(error).splitlines()[:1]
        raise UserError(f"{path}: {': '.join([type(error).__name__, *why])}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: a config is what base() gives, changed, and not a {type(config).__name__}")
    for override in overrides:
        _override(config, override)
    return complete(config)


def complete(config: Config) -> Config:
    """Refuses fields that `base` does not have, and what cannot be."""
    _compare(config, base(), "")
    if config.steps < 1 or config.batch < 1:
        raise UserError("config.steps and config.batch must be at least 1")
    for name, least in _LEAST.items():
        group, _, field = name.rpartition(".")
        value = (config[group] if group else config)[field]
        if not (isinstance(value, (int, float)) and value >= least):
            raise UserError(f"config.{name} must be at least {least:g}, not {value}")
    for name, values in (("data.weights", config.data.weights), ("scales", config.scales)):
        if not all(isinstance(value, (int, float)) and 0 <= value < math.inf for value in values):
            raise UserError(f"config.{name} must be numbers from 0, not {tuple(values)}")
    if not (isinstance(config.seed, int) and config.seed < 2**32):  # JAX would count modulo that
        raise UserError(f"config.seed must be a whole number below 2^32, not {config.seed}")
    betas = config.optim.betas
    if len(betas) != 2 or not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in betas):
        raise UserError(f"config.optim.betas must be two numbers from 0 and below 1, not {tuple(betas)}")
    crop = config.crop
    pairs = [at for at in crop if isinstance(at, (tuple, list)) and [type(n) for n in at] == [int, int]]
    if not crop or len(pairs) < len(crop) or min(min(side, start + 1) for start, side in pairs) < 1:
        raise UserError(f"config.crop must be pairs of a step and a side, such as ((0, 256),), not {crop}")
    if config.val.side < 11:
        raise UserError(f"config.val.side must be at least 11, for SSIM, not {config.val.side}")
    if config.at_once < 0 or (config.at_once and config.batch % config.at_once):
        raise UserError(f"config.at_once must divide the batch of {config.batch}, not {config.at_once}")
    if config.data.frames < 1 or config.data.frames % 2 == 0:
        raise UserError(f"config.data.frames must be odd, so that there is a middle one, not {config.data.frames}")
    if not 0 <= config.ema < 1:
        raise UserError(f"config.ema must be from 0 and below 1, not {config.ema}")
    if not 0 < config.data.aside < 1:
        raise UserError(f"config.data.aside must be above 0 and below 1, not {config.data.aside}")
    if config.optim.name not in ("adamw", "muon"):
        raise UserError(f"config.optim.name must be adamw or muon, not {config.optim.name}")
    if config.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config.dtype must be float32 or bfloat16, not {config.dtype}")
    return config


_LEAST = {
    "log_every": 1,
    "val.every": 1,
    "val.count": 1,
    "val.pictures": 0,
    "checkpoint.every": 1,
    "checkpoint.keep": 0,
    "seed": 0,
    "data.threads": 1,
    "data.workers": 0,
    "data.max_side": 0,
    "data.shrink": 1,
    "data.keep_gb": 0,
    "blur.grow": 0,
    "optim.lr": 0,
    "optim.warmup": 0,
    "optim.final": 0,
    "optim.weight_decay": 0,
    "optim.clip": 0,
    "diverged": 0,
}
_FREE = ("variant", "blur.recipe")  # their fields are those of another config


def _compare(config: Any, known: Any, prefix: str) -> None:
    if lacking := [name for name in known if name not in config]:
        raise UserError(f"config.{prefix}{lacking[0]}: is missing; a config is what base() gives, changed")
    for name in config:
        field = f"{prefix}{name}"
        if name not in known:
            raise UserError(f"config.{field}: no such field{_nearest(name, known)}")
        if isinstance(known[name], ConfigDict) and not isinstance(config[name], ConfigDict):
            raise UserError(f"config.{field} must be a group of fields, not {config[name]!r}")
        if isinstance(known[name], ConfigDict) and field not in _FREE:
            _compare(config[name], known[name], f"{field}.")


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"


def _override(config: Config, override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"--config.{override}: write it as --config.{name}=VALUE")
    *parents, last = name.split(".")
    place: Any = config
    for i, parent in enumerate(parents):
        if parent not in place or not isinstance(place[parent], ConfigDict):
            raise UserError(f"config.{'.'.join(parents[: i + 1])}: no such group of fields{_nearest(parent, place)}")
        place = place[parent]
    free = ".".join(parents) in _FREE
    if last not in place and not free:
        raise UserError(f"config.{name}: no such field{_nearest(last, place)}")
    old = None if free else place[last]
    value: Any = text
    if not isinstance(old, str):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, str):
        value = (value,)
    if old is not None and type(value) is not type(old):
        raise UserError(f"config.{name}: must be {type(old).__name__}, not {text!r}")
    try:
        place[last] = value
    except TypeError:  # a group that is free has types nevertheless
        kind = type(place[last]).__name__
        raise UserError(f"config.{name}: must be {kind}, not {text!r}") from None
