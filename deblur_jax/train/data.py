"""What a run trains on and is judged by."""

import dataclasses
import json
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deblur_jax.blur.synthesis import Recipe
from deblur_jax.errors import UserError
from deblur_jax.files import local, make_folder, write_whole
from deblur_jax.pipeline import poses, trees
from deblur_jax.pipeline.loader import Loader, LoaderConfig
from deblur_jax.pipeline.sources import Clips, Folder, Item, Source, open_source, splits_of
from deblur_jax.restore.images import encode_image
from deblur_jax.train import mesh as meshes
from deblur_jax.train import step
from deblur_jax.train.config import Config


def sources(config: Config) -> tuple[list[Source], list[Source]]:
    """For training and for validation."""
    data = config.data
    if not data.train:
        raise UserError("config.data.train names no folder: --config.data.train=FOLDER")
    train, val = [], []
    for folder in data.train:
        if data.val:
            train.append(open_source(folder, frames=data.frames))
        else:
            ours, theirs = _split(local(folder), data.frames, data.aside)
            train.append(ours)
            val.append(theirs)
    trained_on = {local(folder).resolve() for folder in data.train}
    return train, [_validation(local(folder), trained_on, data.frames) for folder in data.val] if data.val else val


def _validation(folder: Path, trained_on: set[Path], frames: int) -> Source:
    """Of a folder named for validation the split val, else test, else all of it, if that is not trained on."""
    there = splits_of(folder)
    split = next((name for name in ("val", "test") if name in there), "train")
    if split == "train" and any(_overlap(folder.resolve(), other) for other in trained_on):
        raise UserError(
            f"{folder}: is trained on and has no split val or test to validate by; "
            "name another: --config.data.val=FOLDER"
        )
    return open_source(folder, split=split, frames=frames)


def _overlap(judging: Path, training: Path) -> bool:
    if training.is_relative_to(judging):
        return True
    return judging.is_relative_to(training) and judging.relative_to(training).parts[0] not in ("val", "test")


def _split(folder: Path, frames: int, aside: float) -> tuple[Source, Source]:
    kind = trees.kind_of(folder)
    if kind in ("pairs", "photos"):
        splits = trees.pairs(folder) if kind == "pairs" else trees.photos(folder)
        if not splits.get("val"):
            ours = [e for e in splits.get("train", []) if not trees.is_kept_aside(e.sequence, aside)]
            theirs = [e for e in splits.get("train", []) if trees.is_kept_aside(e.sequence, aside)]
            if not ours or not theirs:
                raise UserError(
                    f"{folder}: too few to keep some aside for validation; name others: --config.data.val=FOLDER"
                )
            return Folder(ours, frames=frames), Folder(theirs, frames=frames)
    elif kind == "clips":
        splits = trees.clips(folder)
        if not splits.get("val"):
            ours, theirs = _clips_apart(splits.get("train", []), folder, aside)
            return Clips(ours, frames=frames), Clips(theirs, frames=frames)
    return open_source(folder, frames=frames), open_source(folder, split="val", frames=frames)


def _clips_apart(clips: Sequence[Path], folder: Path, aside: float) -> tuple[list[Path], list[Path]]:
    """Whole clips, for training and kept aside: at least one each."""
    if len(clips) < 2:
        raise UserError(f"{folder}: a single clip; validation needs another: --config.data.val=FOLDER")
    in_order = sorted(clips, key=lambda clip: trees.place(_clip_name(clip, folder)))
    count = sum(trees.is_kept_aside(_clip_name(clip, folder), aside) for clip in clips)
    kept = set(in_order[: min(max(1, count), len(clips) - 1)])
    return [clip for clip in clips if clip not in kept], [clip for clip in clips if clip in kept]


def _clip_name(clip: Path, folder: Path) -> str:
    return clip.relative_to(folder).with_suffix("").as_posix()


def recipe(config: Config) -> Recipe:
    known = {field.name for field in dataclasses.fields(Recipe)}
    given: dict[str, Any] = dict(config.blur.recipe)
    if unknown := sorted(set(given) - known):
        raise UserError(f"config.blur.recipe.{unknown[0]}: no such field; there are {', '.join(sorted(known))}")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    try:
        made = Recipe(**given)
    except (ValueError, TypeError) as error:
        raise UserError(f"config.blur.recipe: {error}") from None
    if made.has("frames") != (config.data.frames > 1):
        raise UserError(
            "neighbouring frames are averaged where config.data.frames is above 1 and config.blur.recipe.shares has "
            f"the kind 'frames': here it is {config.data.frames}, and shares {made.shares}"
        )
    return made


def recorded(config: Config, made: Recipe) -> np.ndarray | None:
    if not made.has("recorded"):
        return None
    return poses.exposures(config.blur.poses, views=made.views, axes=config.blur.pose_axes, seed=config.seed)


def loader(config: Config, train: Sequence[Source], made: Recipe) -> Loader:
    """This process' share of the batches; crops are wider by the recipe's margin where blur is made."""
    return _loader(config, train, made, config.seed)


def _loader(config: Config, train: Sequence[Source], made: Recipe, seed: int) -> Loader:
    margin = 0 if all(source.paired for source in train) else 2 * made.margin
    d = config.data
    loading = LoaderConfig(
        batch=config.batch,
        crop=tuple((start, side + margin) for start, side in config.crop),
        seed=seed,
        max_side=d.max_side or None,
        shrink=d.shrink,
        weights=tuple(d.weights) or None,
        threads=d.threads,
        workers=d.workers,
        keep_gb=d.keep_gb,
    )
    return Loader(train, loading, process=jax.process_index(), processes=jax.process_count())


def write_pairs(
    config: Config,
    sources: Sequence[Source],
    folder: Path,
    count: int,
    *,
    offset: int = 0,
    tick: Callable[[int, int], None] | None = None,
) -> None:
    """`count` pairs as the training step would make them, as PNG in `folder`/blur and /sharp; goes on where it stopped.

    Batch by batch from (seed + offset, batch): the same command writes the same pairs, and another one's are not mixed
    with them.
    """
    made = recipe(config)
    windows = recorded(config, made)
    seed, batch = config.seed + offset, config.batch
    for side in ("blur", "sharp"):
        make_folder(folder / side)
    _check_plan(config, sources, folder, seed)
    missing = (
        n for n in range(count) if not all((folder / side / f"{n:06d}.png").is_file() for side in ("blur", "sharp"))
    )
    first = next(missing, count) // batch
    pictures = _loader(config, sources, made, seed).batches(first)
    compiled = jax.jit(
        lambda number, sharp: step.pairs(
            jax.random.fold_in(jax.random.key(seed), number),
            {"sharp": sharp},
            recipe=made,
            recorded=None if windows is None else jnp.asarray(windows),
            mesh=meshes.make(1),
        )
    )
    with ThreadPoolExecutor(4) as pool:
        for number in range(first, -(-count // batch)):
            written = []
            for side, several in zip(("blur", "sharp"), compiled(number, next(pictures)["sharp"]), strict=True):
                for i, pixels in enumerate(np.rint(np.asarray(several) * 255.0).astype(np.uint8)):
                    at = number * batch + i
                    if at < count:
                        written.append(pool.submit(_write_png, folder / side / f"{at:06d}.png", pixels))
            for future in written:
                future.result()
            if tick:
                tick(min((number + 1) * batch, count), count)


def _check_plan(config: Config, sources: Sequence[Source], folder: Path, seed: int) -> None:
    """Refuses a folder with pairs that were made in another way; notes how these are."""
    ends = [(len(source), source[0], source[len(source) - 1]) for source in sources]
    pictures = [[count, *(f"{Path(end.name).name} {_digest(end):08x}" for end in two)] for count, *two in ends]
    drawn = {name: config.data[name] for name in ("frames", "max_side", "shrink", "weights")}
    plan = {"seed": seed, "batch": config.batch, "crop": config.crop, "blur": config.blur.to_dict(), "from": pictures}
    text = json.dumps({**plan, **drawn}, indent=1) + "\n"
    path = folder / "plan.json"
    again = f"{folder}: {{}}; name another folder, or remove this one"
    if path.is_file():
        if path.read_text(errors="replace") != text:
            raise UserError(again.format("holds pairs of another seed, recipe, crop, batch or other pictures"))
    elif any((folder / "sharp").glob("*.png")):
        raise UserError(again.format("holds pairs, and no plan.json that says how they were made"))
    write_whole(path, text.encode())


def _digest(item: Item) -> int:
    """Of what is in it: numbered pictures of another folder have the same names."""
    return zlib.crc32(b"".join(map(bytes, item.sharp)))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_whole(path, encode_image(pixels, ".png", effort=1))


def validation(
    config: Config, val: Sequence[Source], made: Recipe, windows: np.ndarray | None, mesh: jax.sharding.Mesh
) -> tuple[jax.Array, jax.Array]:
    """The same blurred and sharp crops in every run of the config, on all devices."""
    margin = 0 if all(source.paired for source in val) else 2 * made.margin
    loading = LoaderConfig(
        batch=config.val.count,
        crop=config.val.side + margin,
        seed=20_000 + config.seed,
        flip=False,
        max_side=config.data.max_side or None,
    )
    batch = next(Loader(val, loading).batches())
    on_devices = {
        n: jax.device_put(v, meshes.everywhere(mesh)) for n, v in batch.items() if n in ("blur", "sharp", "paired")
    }
    windows_there = None if windows is None else jnp.asarray(windows)

    def pairs(batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return step.pairs(jax.random.key(config.seed), batch, recipe=made, recorded=windows_there, mesh=mesh)

    return jax.jit(pairs, out_shardings=meshes.everywhere(mesh))(on_devices)
