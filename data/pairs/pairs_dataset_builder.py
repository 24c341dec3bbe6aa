"""Any folder of pairs, or of sharp photographs."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from deblur_jax.pipeline import trees
from deblur_jax.pipeline.builders import DeblurBuilder
from deblur_jax.pipeline.trees import Example


class Builder(DeblurBuilder):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="pairs", description="blur/ and sharp/, or input/ and target/"),
        tfds.core.BuilderConfig(name="photos", description="sharp photographs alone"),
    ]
    # Pictures in folders below blur/ and sharp/ are the frames of that sequence.
    video = True

    @property
    def has_blur(self) -> bool:
        return self.builder_config.name == "pairs"

    def examples(self, folder: Path) -> dict[str, list[Example]]:
        return trees.pairs(folder) if self.has_blur else trees.photos(folder)
