"""Every network by name. The one table; `facts.json` beside it holds what `facts.py` counted and measured."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from deblur_jax.errors import UserError
from deblur_jax.models import layers
from deblur_jax.models.deepdeblur import DeepDeblur, DeepDeblurConfig
from deblur_jax.models.maxim import Maxim, MaximConfig, without_coarse_outputs
from deblur_jax.models.mean import Mean, MeanConfig, member
from deblur_jax.models.multiscale import MultiScale, MultiScaleConfig
from deblur_jax.models.nano import Nano, NanoConfig, merge

_NAH = "after Nah et al. 2017, arXiv:1612.02177"
_TU = "Tu et al. 2022, arXiv:2201.02973"


@dataclasses.dataclass(frozen=True)
class Network:
    """How to make a network. `merge` turns trained parameters into those of `deployed()`; `brightens` says whether dark
    pictures are brightened for it (filters/dark.py): not where weights were trained by others, without."""

    module: type[nn.Module]
    config: Any
    origin: str
    merge: Callable[[dict], dict] = lambda params: params
    brightens: bool = True

    def varied(self, **fields: Any) -> "Network":
        """With other fields of its config, for ablations. Lists, which JSON makes of them, are tuples again."""
        if isinstance(self.config, MeanConfig):
            return self._with_branches(**fields) if fields else self
        known = [field.name for field in dataclasses.fields(self.config)]
        if unknown := sorted(set(fields) - set(known)):
            raise UserError(f"no {unknown[0]!r}; there are {', '.join(known)}")
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        for name, value in fields.items():
            if not _alike(value, now := getattr(self.config, name)):
                raise UserError(f"{name} must be such as {now!r}, not {value!r}")
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **fields))

    def _with_branches(self, **fields: Any) -> "Network":
        """A mean takes networks as they are, but for what they learn with."""
        if unknown := sorted(set(fields) - {"branches"}):
            raise UserError(f"no {unknown[0]!r} of a mean; there is branches")
        members = tuple(m.varied(**fields) if hasattr(m.config, "branches") else m for m in self.config.members)
        return dataclasses.replace(self, config=MeanConfig(members))

    def training(self, *, dtype: layers.Dtype = jnp.float32, remat: bool = False) -> nn.Module:
        """The network as it is trained."""
        return self.module(self.config, dtype=dtype, remat=remat)

    def deployed(self, *, dtype: layers.Dtype = jnp.float32) -> nn.Module:
        """The network as it is shipped and run; its parameters are `merge(trained parameters)`."""
        return self.module(self.merged().config, dtype=dtype)

    def merged(self) -> "Network":
        """What is left of it when the branches that it learns with are merged; itself if it has none."""
        merged = getattr(self.config, "merged", None)
        return dataclasses.replace(self, config=merged()) if merged else self


def _alike(value: Any, other: Any) -> bool:
    """Whether of the same type; tuples are of whole numbers, and no number is one that no network could have."""
    if type(value) is not type(other):
        return False
    several = value if isinstance(value, tuple) else (value,)
    whole = not isinstance(value, tuple) or all(type(one) is int for one in several)
    return whole and all(abs(one) < 2**16 for one in several if isinstance(one, int | float))


def _mean(members: tuple[Network, ...]) -> Network:
    def merge(params: dict) -> dict:
        return {member(i): network.merge(params[member(i)]) for i, network in enumerate(members)}

    brightens = all(network.brightens for network in members)
    return Network(Mean, MeanConfig(members), "the mean of their answers", merge, brightens)


_NANO = Network(Nano, NanoConfig.nano(), "ours", merge)
_SMALL = Network(MultiScale, MultiScaleConfig.small(), _NAH)

NETWORKS: dict[str, Network] = {
    "nano": _NANO,
    "small": _SMALL,
    "nano+small": _mean((_NANO, _SMALL)),  # whose weights come with the package; `get` makes any other mean
    "medium": Network(MultiScale, MultiScaleConfig.medium(), _NAH),
    "large": Network(MultiScale, MultiScaleConfig.large(), _NAH),
    "small_uniform": Network(MultiScale, MultiScaleConfig.small_uniform(), _NAH),
    "medium_uniform": Network(MultiScale, MultiScaleConfig.medium_uniform(), _NAH),
    "large_uniform": Network(MultiScale, MultiScaleConfig.large_uniform(), _NAH),
    "deepdeblur": Network(
        DeepDeblur, DeepDeblurConfig.official(), "Nah et al. 2017, arXiv:1612.02177", brightens=False
    ),
    "maxim": Network(Maxim, MaximConfig.s3(), _TU, without_coarse_outputs, False),
    "maxim_s1": Network(Maxim, MaximConfig.s1(), _TU, without_coarse_outputs, False),
    "maxim_s2": Network(Maxim, MaximConfig.s2(), _TU, without_coarse_outputs, False),
}


def get(name: str) -> Network:
    """By name; `a+b` is the mean of both."""
    if name in NETWORKS:
        return NETWORKS[name]
    if "+" in name:
        return _mean(tuple(get(one) for one in name.split("+")))
    near = difflib.get_close_matches(name, NETWORKS, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NETWORKS)}"
    raise UserError(f"no network is called {name!r}; {hint}")
