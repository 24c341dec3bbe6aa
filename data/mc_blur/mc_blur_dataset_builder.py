"""MC-Blur: many causes of blur; three of its four subsets have sharp pictures."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from deblur_jax.pipeline import trees
from deblur_jax.pipeline.builders import DeblurBuilder
from deblur_jax.pipeline.trees import Example

# The folder in the archive, and the published counts.
SUBSETS = {
    "rhm": ("motion_avg", {"train": 70000, "test": 17500}),
    "uhdm": ("Conv", {"train": 8000, "test": 2000}),
    "lsd": ("defocus_crop", {"train": 18000, "test": 4400}),
}


class Builder(DeblurBuilder):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="rhm", description="motion, averaged from video of 250, 500 and 1000 frames/s"),
        tfds.core.BuilderConfig(name="uhdm", description="large kernels on pictures of ultra-high definition"),
        tfds.core.BuilderConfig(name="lsd", description="heavy defocus, in crops"),
    ]
    HOMEPAGE = "https://github.com/HDCVLab/MC-Blur-Dataset"
    LICENSE = "CC BY-NC-ND 4.0"

    @property
    def counts(self) -> dict[str, int]:
        return SUBSETS[self.builder_config.name][1]

    def examples(self, folder: Path) -> dict[str, list[Example]]:
        name = SUBSETS[self.builder_config.name][0]
        root = folder / name if (folder / name).is_dir() else folder
        return {split: self._pairs(root / split.title()) for split in self.counts}

    def _pairs(self, folder: Path) -> list[Example]:
        # How the files are called is published nowhere: a pair is two files of one name.
        blur, sharp = folder / "blurry", folder / "sharp"
        return trees.paired(blur, sharp) or [Example.unknown(sharp / "*", blur / "*")]
