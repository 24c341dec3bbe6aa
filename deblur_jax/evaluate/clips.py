"""Pairs of clips, blur/NAME.mp4 beside sharp/NAME.mp4: each frame is a picture, each clip a sequence."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.evaluate.run import Read
from deblur_jax.pipeline.checks import Entry
from deblur_jax.pipeline.pictures import as_8bit
from deblur_jax.restore import video_io
from deblur_jax.restore.images import encode_image
from deblur_jax.restore.inputs import READABLE_CLIPS

__all__ = ["ClipPair", "decoded", "frames_in", "pairs"]


@dataclass(frozen=True)
class ClipPair:
    name: str
    blurred: Path
    sharp: Path


def pairs(folder: Path) -> list[ClipPair]:
    """None where the folder holds no clips."""
    found = [p for p in sorted((folder / "blur").glob("*")) if p.suffix.lower() in READABLE_CLIPS]
    for path in found:
        if not (folder / "sharp" / path.name).is_file():
            raise UserError(f"{folder / 'sharp' / path.name}: is missing: each clip in blur/ needs its sharp one")
    return [ClipPair(path.name, path, folder / "sharp" / path.name) for path in found]


def frames_in(found: list[ClipPair]) -> int:
    """About so many, by what the files say; those that cannot be read have none."""
    count = 0
    for pair in found:
        try:
            count += video_io.probe(pair.blurred).frames
        except UserError:
            continue
    return count


def decoded(found: list[ClipPair], every: int = 1) -> Iterator[Read]:
    """Of all frames each `every`th, in constant memory. An error about a clip is about all of its frames."""
    passed = itertools.count()
    for pair in found:
        try:
            one, other = video_io.probe(pair.blurred), video_io.probe(pair.sharp)
            if one.seen_size() != other.seen_size():
                sizes = " and ".join("{}x{}".format(*clip.seen_size()) for clip in (one, other))
                raise UserError(f"{pair.name}: the blurred and the sharp clip differ in size: {sizes}")
            both = itertools.zip_longest(_pictures(one), _pictures(other))
            for frame, (blurred, sharp) in enumerate(both):
                if blurred is None or sharp is None:
                    raise UserError(f"{pair.name}: the blurred and the sharp clip differ in their number of frames")
                if next(passed) % every == every // 2:
                    yield _entry(pair, frame), (as_8bit(blurred()), as_8bit(sharp()))
        except UserError as error:
            yield _entry(pair, None), error


def _entry(pair: ClipPair, frame: int | None) -> Entry:
    def read() -> tuple[bytes, bytes]:
        both = (_pictures(video_io.probe(path)) for path in (pair.blurred, pair.sharp))
        blurred, sharp = (encode_image(as_8bit(next(itertools.islice(p, frame, None))()), ".png") for p in both)
        return blurred, sharp

    name = pair.name if frame is None else f"{pair.name}, frame {frame + 1}"
    return Entry(name, pair.name, frame or 0, read)


def _pictures(clip: video_io.Clip):
    """To be called for the picture, as players show it: frames that are passed over need no colours."""
    for frame in video_io.frames(clip, clip.pixel_format, video_io.Loss()):

        def picture(frame: video_io.Decoded = frame) -> np.ndarray:
            return clip.as_seen(video_io.to_rgb(frame.picture, clip.colours))

        yield picture
