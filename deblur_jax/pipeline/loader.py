"""Batches of aligned crops, the same whatever the number of processes, and their way to the devices.

The position in the data is the global step: batch `step` is computed from (seed, step) alone. A process decodes its own
share of it, so a run goes on with another number of hosts, and nothing but the step has to be saved.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

import grain
import jax
import numpy as np
from absl import flags

from deblur_jax.errors import UserError
from deblur_jax.pipeline.pictures import as_8bit, crop, decode, reduced, shrunk
from deblur_jax.pipeline.sources import Picture, Source

Batch = dict[str, np.ndarray]
"""`sharp`, and `blur` if any source has it: uint8 `(b h w 3)`, with several frames `(b n h w 3)`; `paired`, where only
some have it (the others repeat `sharp` there); `source` and `item`: int32 `(b)`, which of them it is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    batch: int  # of all processes together
    crop: int | tuple[tuple[int, int], ...]  # side of the crops; or (from step, side), for growing crops
    seed: int = 0
    flip: bool = True  # to either side and by quarter turns
    max_side: int | None = None  # reduce larger pictures to this before; photographs are soft at full size
    shrink: float = 1.0  # reduce height and width, each for itself, by up to this: of sharp pictures alone
    weights: tuple[float, ...] | None = None  # of the sources; None: as many items as each has
    threads: int = 4
    prefetch: int = 4  # batches
    workers: int = 0  # processes that decode; 0: in threads of this one
    keep_gb: float = 0.0  # of decoded pictures held in memory, in each of those processes

    def side(self, step: int) -> int:
        if isinstance(self.crop, int):
            return self.crop
        return max(((start, side) for start, side in self.crop if start <= step), default=self.crop[0])[1]


class Loader:
    """`loader.batches(step)` are the batches from that step on, without end."""

    def __init__(self, sources: Sequence[Source], config: LoaderConfig, *, process: int = 0, processes: int = 1):
        _check(sources, config, process, processes)
        self.config, self._sources = config, list(sources)
        self._process, self._processes = process, processes
        self._kept: dict[tuple[int, int, str, int], tuple[np.ndarray, tuple[int, int]]] = {}
        self._room = config.keep_gb * 1e9
        self.steps_per_epoch = sum(map(len, sources)) / config.batch

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Each process' share: rows `process * batch / processes` and following of the global batch."""
        config = self.config
        local = config.batch // self._processes
        if len(self._sources) == 1:
            stream = self._stream(0)
        else:
            weights = config.weights or [float(len(source)) for source in self._sources]
            stream = grain.MapDataset.mix([self._stream(i) for i in range(len(self._sources))], weights)
        # Grain counts what has no end as 2^63 - 1 items, and batches of one of them as 2^63, which is no length.
        stream = stream.slice(slice(0, 2**53))
        # Batches are cut before they are shared, so that the share is contiguous.
        shares = stream.map_with_index(self._example).batch(local)
        shares = shares.slice(slice(start * self._processes + self._process, None, self._processes))
        threads = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.prefetch)
        batches = shares.to_iter_dataset(threads)
        if config.workers:
            # Grain's workers read flags, which only absl's own main functions parse.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers))
        return iter(batches)

    def _stream(self, which: int) -> grain.MapDataset:
        """Indices only; shuffled anew for every epoch. Nothing is read before it is known whose share it is."""
        indices = grain.MapDataset.range(len(self._sources[which]))
        # The sources have seeds of their own, or two copies of one would walk in step.
        return indices.seed(self.config.seed + 7919 * which).shuffle().repeat().map(lambda item: (which, item))

    def _example(self, position: int, at: tuple[int, int]) -> Batch:
        """Crops of the item at this position of the global stream."""
        config = self.config
        which, index = at
        item = self._sources[which][index]
        generator = np.random.default_rng((config.seed, position))
        down, right = generator.random(2)
        flipped, turns = (int(generator.integers(n)) if config.flip else 0 for n in (2, 4))
        ratios = config.shrink ** -generator.random(2)

        side = config.side(position // config.batch)
        taken = math.ceil(side / ratios.min())

        def pieces(kind: str, pictures: Sequence) -> tuple[np.ndarray, tuple[int, int]]:
            held = [self._held((which, index, kind, i), p, item.name) for i, p in enumerate(pictures)]
            cut = [crop(p, taken, down=down, right=right, name=item.name, max_side=config.max_side) for p, _ in held]
            sizes = {original or size for (_, original), (_, size) in zip(held, cut, strict=True)}
            if len(sizes) > 1:
                raise UserError(f"{item.name}: its frames have different sizes")
            stack = np.stack([shrunk(piece, *ratios)[:side, :side] for piece, _ in cut])
            stack = np.rot90(stack, turns, (1, 2))
            stack = np.ascontiguousarray(stack[:, :, ::-1] if flipped else stack)
            return (stack if len(cut) > 1 else stack[0]), sizes.pop()

        sharp, size = pieces("sharp", item.sharp)
        example = {"sharp": sharp, "source": np.int32(which), "item": np.int32(index)}
        if any(source.paired for source in self._sources):
            blur, blur_size = (sharp, size) if item.blur is None else pieces("blur", item.blur)
            if blur_size != size:
                sizes = " and ".join(f"{w}x{h}" for h, w in (blur_size, size))
                raise UserError(f"{item.name}: the blurred and the sharp picture differ in size: {sizes}")
            example["blur"] = blur
            if not all(source.paired for source in self._sources):
                example["paired"] = np.bool_(item.blur is not None)
        return example

    def _held(
        self, key: tuple[int, int, str, int], picture: Picture, name: str
    ) -> tuple[Picture, tuple[int, int] | None]:
        """The picture decoded and reduced, if it is in memory or there is room for it, and its original size."""
        if key not in self._kept:
            if self._room <= 0:
                return picture, None
            original = picture if isinstance(picture, np.ndarray) else as_8bit(decode(picture, name, silent=False))
            pixels = reduced(original, self.config.max_side)
            self._room -= pixels.nbytes
            self._kept[key] = pixels, original.shape[:2]
        return self._kept[key]


def _check(sources: Sequence[Source], config: LoaderConfig, process: int, processes: int) -> None:
    if not sources:
        raise UserError("a loader needs at least one source")
    if config.batch < 1 or config.batch % processes:
        raise UserError(f"the batch of {config.batch} cannot be shared among {processes} processes")
    if not 0 <= process < processes:
        raise UserError(f"process {process} of {processes}")
    if not config.shrink >= 1:
        raise UserError(f"shrink must be at least 1, not {config.shrink}")
    if config.shrink > 1 and any(source.paired for source in sources):
        raise UserError("shrink is for sharp pictures: the blur and the noise of pairs would shrink with them")
    if config.weights is not None:
        if len(config.weights) != len(sources):
            raise UserError(f"{len(config.weights)} weights for {len(sources)} sources")
        if min(config.weights) <= 0:
            raise UserError(f"weights must be above 0, not {config.weights}")
    crops = [(0, config.crop)] if isinstance(config.crop, int) else list(config.crop)
    if not crops or crops[0][0] != 0 or crops != sorted(crops) or min(side for _, side in crops) < 1:
        raise UserError(f"crop must be a side, or (from step, side) pairs that start at step 0 and rise: {config.crop}")


def feed(
    batches: Iterable[Batch], sharding: jax.sharding.Sharding, *, ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """The batches on the devices, their first axis sharded, `ahead` of them on the way while the last one is used.

    Pictures travel as uint8; `to_float` is for the step.
    """
    queue: collections.deque = collections.deque()
    for batch in batches:
        # Returns at once; the copy runs behind.
        queue.append({name: jax.make_array_from_process_local_data(sharding, value) for name, value in batch.items()})
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue


def to_float(pictures: jax.Array) -> jax.Array:
    """uint8 to float32 in [0, 1], on the device."""
    return pictures.astype(np.float32) / 255.0
