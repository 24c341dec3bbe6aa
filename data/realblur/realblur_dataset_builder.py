"""RealBlur: real pairs from two cameras behind one lens, of 232 dim static scenes."""

import re
from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from deblur_jax.errors import UserError
from deblur_jax.pipeline.builders import DeblurBuilder
from deblur_jax.pipeline.trees import Example

# The archive's folders, of whose pictures the lists speak.
FOLDERS = {"j": "RealBlur-J_ECC_IMCORR_centroid_itensity_ref", "r": "RealBlur-R_BM3D_ECC_IMCORR_centroid_itensity_ref"}


class Builder(DeblurBuilder):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="j", description="the camera's JPEG"),
        tfds.core.BuilderConfig(name="r", description="from the camera's raw pictures, denoised"),
    ]
    HOMEPAGE = "http://cg.postech.ac.kr/research/RealBlur/"
    LICENSE = "CC BY 4.0"

    @property
    def counts(self) -> dict[str, int]:
        return {"train": 3758, "test": 980}

    def examples(self, folder: Path) -> dict[str, list[Example]]:
        # Pictures of a scene are shots one after the other, not the frames of a video.
        return {split: self._listed(folder, split) for split in self.counts}

    def _listed(self, folder: Path, split: str) -> list[Example]:
        config = self.builder_config.name
        path = folder / f"RealBlur_{config.upper()}_{split}_list.txt"
        if not path.is_file():
            return [Example.unknown(path)]
        found = []
        try:
            lines = path.read_text("utf-8").splitlines()
        except ValueError:
            raise UserError(f"{path}: is no text in UTF-8; take it from the archive once more") from None
        for at, line in enumerate(lines, 1):
            if line.strip():
                if len(line.split()) < 2:
                    raise UserError(f"{path}: line {at} should name a sharp picture and a blurred one: {line.strip()}")
                sharp, blur = (folder / name for name in line.split()[:2])
                number = re.findall(r"\d+", sharp.stem)
                found.append(Example(sharp.parent.parent.name, int(number[-1]) if number else 0, sharp, blur))
        return sorted(found, key=lambda example: (example.sequence, example.frame))
