"""REDS: 270 published sequences of 100 frames, three flavours of blur."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from deblur_jax.pipeline.builders import DeblurBuilder
from deblur_jax.pipeline.trees import Example

SEQUENCES = {"train": 240, "val": 30}
FRAMES = 100


class Builder(DeblurBuilder):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="blur", description="averaged frames"),
        tfds.core.BuilderConfig(name="blur_jpeg", description="the same, compressed as JPEG (NTIRE 2021)"),
        tfds.core.BuilderConfig(name="blur_comp", description="the same, compressed as video"),
    ]
    HOMEPAGE = "https://seungjunnah.github.io/Datasets/reds.html"
    LICENSE = "CC BY 4.0"
    video = True

    @property
    def size(self) -> tuple[int, int]:
        return 1280, 720

    def examples(self, folder: Path) -> dict[str, list[Example]]:
        splits = {}
        for split, sequences in SEQUENCES.items():
            # The archives unpack to train/train_sharp; many copies leave the upper folder out.
            root = folder / split if (folder / split).is_dir() else folder
            sharp, blur = root / f"{split}_sharp", root / f"{split}_{self.builder_config.name}"
            suffix = ".jpg" if self.builder_config.name == "blur_jpeg" else ".png"
            splits[split] = [
                Example(f"{s:03d}", f, sharp / f"{s:03d}/{f:08d}.png", blur / f"{s:03d}/{f:08d}{suffix}")
                for s in range(sequences)
                for f in range(FRAMES)
            ]
        return splits
