"""The mean of what several networks answer: each knows what the others do not."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from deblur_jax.errors import UserError
from deblur_jax.models import layers


@dataclasses.dataclass(frozen=True)
class MeanConfig:
    members: tuple[Any, ...]  # each a `zoo.Network`

    def __post_init__(self):
        for member in self.members:
            if hasattr(member.config, "tiling"):
                raise UserError(f"no mean with {member.module.__name__}, which sees the whole picture")

    @property
    def multiple_of(self) -> int:
        return math.lcm(*(member.config.multiple_of for member in self.members))

    def merged(self) -> "MeanConfig":
        return MeanConfig(tuple(member.merged() for member in self.members))


class Mean(nn.Module):
    config: MeanConfig
    dtype: layers.Dtype = jnp.float32  # of the computation; parameters and output are float32
    remat: bool = False  # less memory in training, more time: see `layers.in_turn`

    @nn.compact
    def __call__(
        self, blurred: Float[Array, "b h w 3"], *, train: bool = False
    ) -> Float[Array, "b h w 3"] | tuple[Float[Array, "b h w 3"]]:
        members = enumerate(self.config.members)
        answers: list[Array] = [m.module(m.config, self.dtype, self.remat, name=member(i))(blurred) for i, m in members]
        mean = sum(answers[1:], answers[0]) / len(answers)
        return (mean,) if train else mean


def member(index: int) -> str:
    """The name under which its parameters are."""
    return f"network{index}"
