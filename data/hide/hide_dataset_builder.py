"""HIDE: people in motion, pairs from high-speed video."""

import re
from pathlib import Path

from deblur_jax.pipeline import trees
from deblur_jax.pipeline.builders import DeblurBuilder
from deblur_jax.pipeline.trees import Example


class Builder(DeblurBuilder):
    HOMEPAGE = "https://github.com/joanshen0508/HA_deblur"
    LICENSE = "none stated"

    @property
    def size(self) -> tuple[int, int]:
        return 1280, 720

    @property
    def counts(self) -> dict[str, int]:
        return {"train": 6397, "test": 2025}

    def examples(self, folder: Path) -> dict[str, list[Example]]:
        root = folder / "HIDE_dataset" if (folder / "HIDE_dataset").is_dir() else folder
        return {
            "train": self._pairs(root, "train"),
            "test": self._pairs(root, "test/test-close-ups", "test/test-long-shot"),
        }

    def _pairs(self, root: Path, *folders: str) -> list[Example]:
        # 109fromGOPR1096.MP4.png is frame 109 of the recording GOPR1096; all sharp pictures lie in GT/.
        found = []
        for folder in folders:
            blurred = [path for path in trees.pictures(root / folder) if path.parent == root / folder]
            if not blurred:
                found.append(Example.unknown(root / folder / "*.png"))
            for blur in blurred:
                known = re.fullmatch(r"(\d+)from(\w+?)(\.MP4)?", blur.stem)
                sequence, frame = (known[2], int(known[1])) if known else (blur.stem, 0)
                found.append(Example(sequence, frame, root / "GT" / blur.name, blur))
        return sorted(found, key=lambda example: (example.sequence, example.frame, example.name))
