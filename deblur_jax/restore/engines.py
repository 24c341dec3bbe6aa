"""What runs a network: JAX on every device, several frames at a time, or one cut over all of them."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from deblur_jax.errors import UserError
from deblur_jax.models import facts, layers
from deblur_jax.models.facts import Facts
from deblur_jax.restore import tiles
from deblur_jax.restore.tiles import Tiling
from deblur_jax.weights import Weights

__all__ = ["Engine", "JaxEngine", "devices_named"]


class Engine(Protocol):
    """Runs a network on frames whose sides are multiples of `facts.multiple_of`."""

    facts: Facts
    batch: int  # so many frames at once make the best use of it

    def tiling(self, height: int, width: int) -> Tiling:
        """How a picture must be cut to fit the memory."""
        ...

    def __call__(self, frames: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w 3"]: ...


def devices_named(name: str | None) -> list[Any]:
    """All there are; those of a platform (`cpu`, `gpu`, `tpu`); or one of them (`gpu:1`)."""
    if name is None:
        return jax.devices()
    platform, colon, number = name.partition(":")
    try:
        devices = jax.devices(platform)
        return [devices[int(number)]] if colon else devices
    except (RuntimeError, ValueError, IndexError):
        there = ", ".join(f"{d.platform}:{d.id}" for d in jax.devices())
        raise UserError(f"no device is called {name!r}; there are {there}") from None


class JaxEngine:
    """`max_pixels` is how much of a picture one device takes at once; without it, what the compiled network needs is
    compared with `memory` (bytes, of all devices of a CPU together), or with what is there."""

    def __init__(
        self,
        weights: Weights,
        *,
        devices: Sequence[Any] | None = None,
        max_pixels: int | None = None,
        memory: int | None = None,
        dtype: str = "float32",
    ) -> None:
        self.facts = facts.of(weights)
        self.devices = list(devices or jax.devices())
        self.batch = len(self.devices)
        self._module = weights.entry.deployed(dtype=jnp.dtype(dtype).type)
        self._variables = {"params": weights.deployed()}
        self._max_pixels, self._memory = max_pixels, memory
        self._placed: dict[str, Any] = {}
        self._tilings: dict[tuple[int, int], Tiling] = {}
        self._compiled: dict[tuple, Any] = {}

    def __call__(self, frames: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w 3"]:
        if self.batch == 1 or self._fits("data", *frames.shape[1:3]):
            return self._whole("data", frames)
        return np.concatenate([self._whole("space", frame[None]) for frame in frames])

    def tiling(self, height: int, width: int) -> Tiling:
        """The whole picture if that fits, on one device or cut over all of them; else equal tiles that do."""
        if (height, width) not in self._tilings:
            self._tilings[height, width] = self._tiling(height, width)
        return self._tilings[height, width]

    def _tiling(self, height: int, width: int) -> Tiling:
        multiple = self.facts.multiple_of
        pixels = (height + multiple) * (width + multiple)
        if self._memory is not None and self.facts.working and self.devices[0].platform == "cpu":
            known = _free_bytes(self.devices, self._memory - self._reserved()) / (self.facts.working + _BESIDE)
            pixels = max(1, min(pixels, int(known)))
        tiling = tiles.plan(height, width, facts=self.facts, pixels=pixels)
        if self.batch > 1 and self._fits("space", tiling.tile_height, tiling.tile_width):
            return tiling
        while not self._fits("data", tiling.tile_height, tiling.tile_width):
            pixels = min(pixels // 2, self._max_pixels or pixels)
            smaller = tiles.plan(height, width, facts=self.facts, pixels=pixels)
            if smaller == tiling:
                break  # no smaller tile makes sense: try
            tiling = smaller
        return tiling

    def work(self, height: int, width: int) -> Callable[[], Any]:
        """Restores one picture that is on the devices already, for taking the time."""
        axis = "data" if len(self.devices) == 1 else "space"
        compiled, sharding = self._compile(axis, 1, height, width)
        filled = height + -height % sharding.mesh.shape["space"]
        picture = np.random.default_rng(0).random((1, filled, width, 3), np.float32)
        arguments = self._variables_on(sharding), jax.device_put(picture, sharding)
        return lambda: compiled(*arguments)

    def _whole(self, axis: str, frames: np.ndarray) -> np.ndarray:
        """Along `data` as many frames at a time as there are devices; along `space` one frame, its rows shared."""
        many = len(self.devices)
        h, w = frames.shape[1:3]
        if axis == "space":
            # Shares must be equal to be sent; what fills up the last one is cut off again before the network.
            filled = np.pad(frames, ((0, 0), (0, -h % many), (0, 0), (0, 0)))
            return np.asarray(self._apply(axis, 1, h, w, filled))[:, :h]
        parts = []
        for start in range(0, len(frames), many):
            some = frames[start : start + many]
            filled = some if len(some) == many else np.concatenate([some, np.repeat(some[-1:], many - len(some), 0)])
            parts.append(np.asarray(self._apply(axis, many, h, w, filled))[: len(some)])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _apply(self, axis: str, batch: int, height: int, width: int, frames: np.ndarray) -> jax.Array:
        compiled, sharding = self._compile(axis, batch, height, width)
        return compiled(self._variables_on(sharding), jax.device_put(frames, sharding))

    def _compile(self, axis: str, batch: int, height: int, width: int) -> tuple[Any, NamedSharding]:
        key = axis, batch, height, width
        if key in self._compiled:
            return self._compiled[key]
        shape = (batch, 1) if axis == "data" else (1, len(self.devices))
        mesh = Mesh(np.array(self.devices).reshape(shape), ("data", "space"), axis_types=(AxisType.Auto,) * 2)
        sharding = NamedSharding(mesh, P("data", "space"))
        filling = -height % mesh.shape["space"]

        # What was measured of the memory that a network works in was measured without.
        fast = len(self.devices) == 1 and self.facts.working is None

        def restore(variables: Any, frames: jax.Array) -> jax.Array:
            with layers.for_restoring(fast):
                restored: Any = self._module.apply(variables, frames[:, :height])
            return jnp.pad(restored, ((0, 0), (0, filling), (0, 0), (0, 0)))

        everywhere = NamedSharding(mesh, P())
        options = layers.compiler_options(self.devices[0].platform)
        function = jax.jit(
            restore, in_shardings=(everywhere, sharding), out_shardings=sharding, compiler_options=options
        )
        variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), self._variables)
        frames = jax.ShapeDtypeStruct((batch, height + filling, width, 3), jnp.float32)
        self._compiled[key] = function.lower(variables, frames).compile(), sharding
        return self._compiled[key]

    def _variables_on(self, sharding: NamedSharding) -> Any:
        key = str(sharding.mesh.shape_tuple)
        if key not in self._placed:
            self._placed[key] = jax.device_put(self._variables, NamedSharding(sharding.mesh, P()))
        return self._placed[key]

    def _fits(self, axis: str, height: int, width: int) -> bool:
        shares = len(self.devices) if axis == "space" else 1
        if self._max_pixels is not None:
            return math.ceil(height / shares) * width <= self._max_pixels
        batch = len(self.devices) if axis == "data" else 1
        needs = self._compile(axis, batch, height, width)[0].memory_analysis()
        if needs is None:  # a platform that does not say
            return True
        # Of each device, for one frame or its share of one.
        total = needs.argument_size_in_bytes + needs.output_size_in_bytes + needs.temp_size_in_bytes
        if self.devices[0].platform == "cpu":
            total += _BESIDE * math.ceil(height / shares) * width
        return total <= _free_bytes(self.devices, self._memory and self._memory - self._reserved())

    def _reserved(self) -> int:
        """For compiling, beyond what it takes of small networks, which whoever gives the memory has counted."""
        return max(0, (self.facts.compiling or 0) - COMPILING)


COMPILING = 250 * 1024**2  # bytes
# Bytes a pixel that the tile takes beside the network: before, brightened or as sRGB, and after, as floats; as stored.
_BESIDE = 42


def _free_bytes(devices: Sequence[Any], memory: int | None) -> float:
    """What one device may use: most of what is free on it; of a CPU's memory half, shared by those forced on it."""
    if memory is not None:
        return memory / (len(devices) if devices[0].platform == "cpu" else 1)
    statistics = devices[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return 0.8 * (statistics["bytes_limit"] - statistics["bytes_in_use"])
    if devices[0].platform != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices)
