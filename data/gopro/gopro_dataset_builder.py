"""GoPro (GOPRO_Large): 33 sequences of pairs, blur averaged from high-speed video."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from deblur_jax.pipeline import trees
from deblur_jax.pipeline.builders import DeblurBuilder
from deblur_jax.pipeline.trees import Example

SEQUENCES = {
    "train": (
        *("GOPR0372_07_00", "GOPR0372_07_01", "GOPR0374_11_00", "GOPR0374_11_01", "GOPR0374_11_02", "GOPR0374_11_03"),
        *("GOPR0378_13_00", "GOPR0379_11_00", "GOPR0380_11_00", "GOPR0384_11_01", "GOPR0384_11_02", "GOPR0384_11_03"),
        *("GOPR0384_11_04", "GOPR0385_11_00", "GOPR0386_11_00", "GOPR0477_11_00", "GOPR0857_11_00", "GOPR0868_11_01"),
        *("GOPR0868_11_02", "GOPR0871_11_01", "GOPR0881_11_00", "GOPR0884_11_00"),
    ),
    "test": (
        *("GOPR0384_11_00", "GOPR0384_11_05", "GOPR0385_11_01", "GOPR0396_11_00", "GOPR0410_11_00", "GOPR0854_11_00"),
        *("GOPR0862_11_00", "GOPR0868_11_00", "GOPR0869_11_00", "GOPR0871_11_00", "GOPR0881_11_01"),
    ),
}


class Builder(DeblurBuilder):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="blur", description="the mean of the frames as they were recorded"),
        tfds.core.BuilderConfig(name="blur_gamma", description="the mean of linear light, by a gamma of 2.2"),
    ]
    HOMEPAGE = "https://seungjunnah.github.io/Datasets/gopro.html"
    LICENSE = "CC BY 4.0"
    video = True

    @property
    def size(self) -> tuple[int, int]:
        return 1280, 720

    @property
    def counts(self) -> dict[str, int]:
        return {"train": 2103, "test": 1111}

    def examples(self, folder: Path) -> dict[str, list[Example]]:
        root = folder / "GOPRO_Large" if (folder / "GOPRO_Large").is_dir() else folder
        return {
            split: [example for name in names for example in self._frames(root / split / name)]
            for split, names in SEQUENCES.items()
        }

    def _frames(self, folder: Path) -> list[Example]:
        blur, sharp = folder / self.builder_config.name, folder / "sharp"
        # How many frames a sequence has is written nowhere.
        return trees.paired(blur, sharp, folder.name) or [Example.unknown(sharp / "*.png", blur / "*.png")]
