"""Pairs in folders."""

import cv2
import pytest

from deblur_jax import samples


@pytest.fixture(scope="session")
def photographs():
    return [cv2.imread(str(path)) for path in samples.PICTURES]


@pytest.fixture
def pairs(tmp_path, photographs):
    """Writes `count` frames of each sequence (of none: loose pictures) as blur/ and sharp/, ever more blurred."""

    def pairs(counts=None, *, size=(64, 80), root="data"):
        at = 0
        for sequence, count in (counts or {"": 3}).items():
            for frame in range(count):
                photo = photographs[at % len(photographs)]
                top, left = 100 + 7 * at, 200 + 5 * at
                sharp = photo[top : top + size[0], left : left + size[1]]
                blurred = cv2.GaussianBlur(sharp, (0, 0), 0.6 + 0.3 * at)
                for side, pixels in (("blur", blurred), ("sharp", sharp)):
                    folder = tmp_path / root / side / sequence
                    folder.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(folder / f"{frame:03d}.png"), pixels)
                at += 1
        return tmp_path / root

    return pairs
