"""VisDrone 2019: pictures and videos from drones, sharp; the blur is artificial."""

import re
import zlib
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from deblur_jax.errors import UserError
from deblur_jax.pipeline import trees
from deblur_jax.pipeline.builders import DeblurBuilder
from deblur_jax.pipeline.trees import Example

FOLDERS = {"train": "train", "val": "val", "test": "test-dev"}
COUNTS = {
    "det": {"train": 6471, "val": 548, "test": 1610},
    "vid": {"train": 24201, "val": 2846, "test": 6635},
}


def _frame(path: Path) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", path.stem):
        raise UserError(f"{path}: is not called by a frame's number, as those of VisDrone are; move it away")
    return int(path.stem)


class Builder(DeblurBuilder):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="det", description="single pictures, to be blurred while training"),
        tfds.core.BuilderConfig(name="vid", description="frames of videos, to be blurred while training"),
        tfds.core.BuilderConfig(name="det_blurred", description="single pictures, each blurred once by camera shake"),
        tfds.core.BuilderConfig(name="vid_blurred", description="frames of videos, each blurred once by camera shake"),
    ]
    HOMEPAGE = "https://github.com/VisDrone/VisDrone-Dataset"
    LICENSE = "for academic use; no licence text found"

    @property
    def task(self) -> str:
        return self.builder_config.name.split("_")[0]

    @property
    def video(self) -> bool:
        return self.task == "vid"

    @property
    def has_blur(self) -> bool:
        return False

    @property
    def makes_blur(self) -> bool:
        return self.builder_config.name.endswith("_blurred")

    @property
    def counts(self) -> dict[str, int]:
        return COUNTS[self.task]

    def examples(self, folder: Path) -> dict[str, list[Example]]:
        splits = {}
        for split, name in FOLDERS.items():
            root = folder / f"VisDrone2019-{self.task.upper()}-{name}"
            if self.task == "det":
                root /= "images"
                found = [Example(path.stem, 0, path) for path in trees.pictures(root)]
            else:
                root /= "sequences"
                found = [Example(path.parent.name, _frame(path), path) for path in trees.pictures(root)]
            splits[split] = found or [Example.unknown(root / "*.jpg")]
        return splits

    def make_blur(self, sharp: bytes, example: Example) -> bytes:
        """Camera shake of 5 to 35 pixels and a little noise, in linear light; the picture's name is the seed."""
        import jax
        import numpy as np

        from deblur_jax import blur, filters
        from deblur_jax.restore.images import decode_image, encode_image

        path, extent, noise = jax.random.split(jax.random.key(zlib.crc32(example.name.encode())), 3)
        trajectory = blur.random_trajectory(path, extent=jax.random.uniform(extent, minval=5.0, maxval=35.0))
        kernel = blur.trajectory_kernel(trajectory, size=73)
        pixels = decode_image(sharp, example.name)
        light = blur.srgb_to_linear(pixels[None] / np.float32(np.iinfo(pixels.dtype).max))
        camera = blur.Camera(gain=1e-4, read=0.002)
        seen = blur.capture(noise, blur.convolve_fft(light, kernel[None]), camera)[0]
        return encode_image(np.asarray(filters.to_8bit(seen)), ".jpg", quality=95)
