"""Whole frames through a network on every device: several at a time, or one cut over all of them, or in tiles."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from deblur_jax.models import facts
from deblur_jax.restore import tiles
from deblur_jax.weights import Weights

__all__ = ["Restorer"]


class Restorer:
    """`restorer(frames)` restores frames of one size, any number of them.

    `max_pixels` is how much of a picture one device takes at once; without it, what the compiled network needs is
    compared with the memory that is there.
    """

    def __init__(
        self, weights: Weights, *, devices: Sequence[Any] | None = None, max_pixels: int | None = None
    ) -> None:
        # A variant has other parameters, costs and another receptive field than the network it is named after.
        self.facts = facts.measure_network(weights.entry) if weights.variant else facts.read()[weights.network]
        self.devices = list(devices or jax.devices())
        self._module = weights.entry.deployed()
        self._variables = {"params": weights.deployed()}
        self._max_pixels = max_pixels
        self._placed: dict[str, Any] = {}
        self._ways: dict[tuple[int, int], Callable[[np.ndarray], np.ndarray]] = {}
        self._compiled: dict[tuple, Any] = {}

    def __call__(self, frames: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w 3"]:
        size = frames.shape[1], frames.shape[2]
        if size not in self._ways:
            self._ways[size] = self._way(*size)
        return self._ways[size](frames)

    def _way(self, height: int, width: int) -> Callable[[np.ndarray], np.ndarray]:
        """The first that fits: whole frames, each on a device; a frame cut over all devices; tiles."""
        many = len(self.devices)
        if self._fits("data", height, width):
            return lambda frames: self._whole("data", frames)
        if many > 1 and self._fits("space", height, width):
            return lambda frames: np.concatenate([self._whole("space", frame[None]) for frame in frames])
        pixels = self._max_pixels or height * width // 2
        tiling = tiles.plan(height, width, facts=self.facts, pixels=pixels)
        while not self._fits("data", tiling.tile_height, tiling.tile_width):
            pixels //= 2
            smaller = tiles.plan(height, width, facts=self.facts, pixels=pixels)
            if smaller == tiling:
                break  # no smaller tile makes sense: try
            tiling = smaller

        def on_tiles(some: np.ndarray) -> np.ndarray:
            return self._whole("data", some)

        def tiled(frames: np.ndarray) -> np.ndarray:
            multiple = self.facts.multiple_of
            restored = (tiles.restore(on_tiles, frame, tiling, multiple=multiple, batch=many) for frame in frames)
            return np.stack(list(restored))

        return tiled

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
            filled = np.concatenate([some, np.repeat(some[-1:], many - len(some), 0)])
            parts.append(np.asarray(self._apply(axis, many, h, w, filled))[: len(some)])
        return np.concatenate(parts)

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

        def restore(variables: Any, frames: jax.Array) -> jax.Array:
            restored: Any = self._module.apply(variables, frames[:, :height])
            return jnp.pad(restored, ((0, 0), (0, filling), (0, 0), (0, 0)))

        everywhere = NamedSharding(mesh, P())
        function = jax.jit(restore, in_shardings=(everywhere, sharding), out_shardings=sharding)
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
        return total <= _free_bytes(self.devices)


def _free_bytes(devices: Sequence[Any]) -> float:
    """What one device may use: most of what is free on it; of a CPU's memory half, shared by those forced on it."""
    statistics = devices[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return 0.8 * (statistics["bytes_limit"] - statistics["bytes_in_use"])
    if devices[0].platform != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices)
