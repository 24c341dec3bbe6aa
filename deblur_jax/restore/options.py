"""What is done to every picture and clip, and what is said of a clip then."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deblur_jax.errors import UserError
from deblur_jax.restore import pictures
from deblur_jax.restore.pictures import Picture

__all__ = ["ClipOptions", "Options", "Report", "mask_of"]


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """What is said of clips alone. None is the input's own."""

    codec: str | None = None
    crf: int | None = None  # the codec's own scale of quality, 0 the best
    pixel_format: str | None = None
    start: float | None = None  # seconds
    end: float | None = None
    every: int = 1
    fps: float | None = None  # of numbered pictures
    compare: Path | None = None  # folder for clips of before and after
    overwrite: bool = False
    skip_existing: bool = False
    hook: Callable[[np.ndarray, float], object] | None = None  # gets each restored frame as it is seen, and its time


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is done to every picture."""

    quality: int | None = None
    strip_metadata: bool = False
    max_pixels: int | None = pictures.MAX_PIXELS
    strength: float = 1.0
    tta: bool = False
    denoise: str | None = None
    linear: bool | None = None  # values are proportional to light, not sRGB's; None: as the file says, a clip's are not
    mask: np.ndarray | None = None  # in [0, 1], the picture's size
    region: tuple[int, int, int, int] | None = None  # x, y, width, height
    overlap: bool = True  # read and write beside the network; takes memory for more pictures
    # Says how sharp a picture is (its pixels, and `linear`), which is copied as it is from `threshold` on.
    sharpness: Callable[..., float] | None = None
    threshold: float = np.inf
    too_blurred: float = -np.inf  # below this the network cannot help much
    show: Callable[[str, Picture, Picture], None] | None = None  # gets name, before and after, for comparing
    clip: ClipOptions = field(default_factory=ClipOptions)

    @property
    def selective(self) -> bool:
        """Whether what is sharp already passes by the network."""
        return self.sharpness is not None and self.threshold < np.inf


@dataclass
class Report:
    """What was done to one clip. Seconds are those in which each part was at work; they overlap."""

    frames: int = 0
    width: int = 0  # as seen
    height: int = 0
    skipped: int = 0  # sharp already: they did not go through the network
    resumed: int = 0  # frames that an earlier run has done
    seconds: float = 0.0
    decode: float = 0.0
    network: float = 0.0
    encode: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Frames a second of this run."""
        return (self.frames - self.resumed) / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"frames_per_second": round(self.rate, 3)}


_FEATHER = 24  # pixels over which a region fades into what lies around it


def mask_of(options: Options, height: int, width: int, name: str) -> np.ndarray | None:
    if options.mask is not None:
        if options.mask.shape != (height, width):
            size = f"{options.mask.shape[1]}x{options.mask.shape[0]}"
            raise UserError(f"the mask is {size}, the picture {width}x{height}")
        return _feathered(options.mask)
    if options.region is None:
        return None
    x, y, w, h = options.region
    if x >= width or y >= height:
        raise UserError(f"the region begins at {x},{y}, outside the picture of {width}x{height}")
    mask = np.zeros((height, width), np.float32)
    mask[y : y + h, x : x + w] = 1.0
    return _feathered(mask)


def _feathered(mask: np.ndarray) -> np.ndarray:
    """Fades out within `_FEATHER` pixels beyond what is fully in the mask; a mask's own soft edges stay."""
    distance = cv2.distanceTransform((mask < 1.0).astype(np.uint8), cv2.DIST_L2, 5)
    return np.maximum(mask, np.clip(1.0 - distance / _FEATHER, 0.0, 1.0))
