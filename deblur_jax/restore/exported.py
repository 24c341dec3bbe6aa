"""Runs exported networks: ONNX through ONNX Runtime, StableHLO through JAX."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from deblur_jax.errors import UserError
from deblur_jax.restore import tiles
from deblur_jax.restore.engines import devices_named
from deblur_jax.restore.tiles import Tiling
from deblur_jax.weights.artifact import Artifact

__all__ = ["ExportedEngine", "adapted", "onnx_network", "stablehlo_network"]

Network = Callable[[Float[np.ndarray, "b h w 3"]], Float[np.ndarray, "b h w 3"]]


def onnx_network(
    model: bytes | Path,
    *,
    layout: Literal["nhwc", "nchw"] = "nhwc",
    whole_numbers: bool = False,
    device: str | None = None,
    threads: int | None = None,
) -> Network:
    """The network as a function of pictures as they are everywhere here, whatever the graph takes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors are raised; warnings concern whoever exported
    if threads:
        options.intra_op_num_threads = threads
    source: Any = model if isinstance(model, bytes) else str(model)
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own kinds are not public
        where = "the model" if isinstance(model, bytes) else model
        raise UserError(f"{where}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from None
    name = session.get_inputs()[0].name

    def run(pictures: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(session.run(None, {name: pictures})[0])
        except Exception as error:
            raise UserError(f"ONNX Runtime cannot run the network: {str(error).splitlines()[0]}") from None

    return adapted(run, layout, whole_numbers)


def stablehlo_network(model: bytes | Path, *, device: str | None = None) -> Network:
    import jax
    from jax import export

    from deblur_jax.models import layers

    data = model if isinstance(model, bytes) else model.read_bytes()
    try:
        network = export.deserialize(bytearray(data))
    except Exception as error:
        raise UserError(f"{model if isinstance(model, Path) else 'the model'}: JAX cannot read it: {error}") from None
    where = devices_named(device)[0]
    call = jax.jit(network.call, compiler_options=layers.compiler_options(where.platform))
    return lambda pictures: np.asarray(call(jax.device_put(pictures, where)))


def adapted(run: Callable[[Any], Any], layout: str, whole_numbers: bool) -> Network:
    def network(pictures: np.ndarray) -> np.ndarray:
        if whole_numbers:
            pictures = np.rint(255 * np.clip(pictures, 0.0, 1.0)).astype(np.uint8)
        if layout == "nchw":
            pictures = pictures.transpose(0, 3, 1, 2)
        restored = run(np.ascontiguousarray(pictures))
        if layout == "nchw":
            restored = restored.transpose(0, 2, 3, 1)
        return restored / np.float32(255) if whole_numbers else restored

    return network


def _providers(device: str | None, there: list[str]) -> list[str]:
    kind, _, number = (device or "").partition(":")
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    if (kind == "cpu" and number in ("", "0")) or (device is None and cuda not in there):
        return [cpu]
    if kind in ("", "gpu", "cuda") and number in ("", "0") and cuda in there:
        return [cuda, cpu]
    raise UserError(f"ONNX Runtime has no device called {device!r}; it has cpu{', gpu' if cuda in there else ''}")


class ExportedEngine:
    """An artifact as an engine. `memory` (bytes) is compared with what the card says that a pixel takes."""

    def __init__(
        self, artifact: Artifact, *, device: str | None = None, memory: int | None = None, max_pixels: int | None = None
    ) -> None:
        self.artifact, self.facts = artifact, artifact.facts
        self.batch = artifact.batch or 1
        if artifact.kind == "onnx":
            self._network = onnx_network(
                artifact.model, layout=artifact.layout, whole_numbers=artifact.whole_numbers, device=device
            )
        else:
            self._network = stablehlo_network(artifact.model, device=device)
        free = memory if memory is not None else _half_of_the_memory()
        self._pixels = max_pixels or free / (_BESIDE + float(artifact.card["network"]["bytes_per_pixel"]))

    def tiling(self, height: int, width: int) -> Tiling:
        multiple = self.facts.multiple_of
        if self.artifact.size:
            fixed = self.artifact.size
            tiling = tiles.plan(height, width, facts=self.facts, pixels=max(height * width, math.prod(fixed)) * 4)
            if (tiling.tile_height, tiling.tile_width) != fixed:
                size = f"{fixed[1]}x{fixed[0]}"
                raise UserError(f"{self.artifact.folder} takes pictures of {size} alone, not of {width}x{height}")
            return tiling
        whole = (height + multiple) * (width + multiple)
        return tiles.plan(height, width, facts=self.facts, pixels=int(min(whole, self._pixels)))

    def __call__(self, frames: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w 3"]:
        h, w = frames.shape[1:3]
        least = self.artifact.least * self.facts.multiple_of
        # Smaller than the graph can reflect: continued below and to the right.
        padded = np.pad(frames, ((0, 0), (0, max(0, least - h)), (0, max(0, least - w)), (0, 0)), mode="symmetric")
        return self._run(padded.astype(np.float32, copy=False))[:, :h, :w]

    def work(self, height: int, width: int) -> Callable[[], Any]:
        """Restores one picture, for taking the time."""
        picture = np.random.default_rng(0).random((self.batch, height, width, 3), np.float32)
        return lambda: self._run(picture)

    def _run(self, frames: Shaped[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w 3"]:
        wanted = self.artifact.batch
        if wanted is None or wanted == len(frames):
            return self._network(frames)
        parts = []
        for start in range(0, len(frames), wanted):
            some = frames[start : start + wanted]
            filled = np.concatenate([some, np.repeat(some[-1:], wanted - len(some), 0)])
            parts.append(self._network(filled)[: len(some)])
        return np.concatenate(parts)


_BESIDE = 42  # bytes a pixel that the tile takes beside the network, as in `engines`


def _half_of_the_memory() -> float:
    if not hasattr(os, "sysconf"):
        return math.inf
    return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
