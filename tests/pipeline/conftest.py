"""Small real pictures, in folders as asked for."""

import cv2
import numpy as np
import pytest

from deblur_jax import samples


@pytest.fixture(scope="session")
def crops():
    """Textured crops of a photograph (h w 3, BGR), all different."""
    photo = cv2.imread(str(samples.PICTURES[1]))

    def crop(index, size=(48, 64)):
        top, left = 13 * index % (photo.shape[0] - size[0]), 37 * index % (photo.shape[1] - size[1])
        return np.ascontiguousarray(photo[top : top + size[0], left : left + size[1]])

    return crop


@pytest.fixture
def write(tmp_path, crops):
    """Writes a picture, blurred where its path says so; the index chooses the crop."""

    def write(path, index, *, size=(48, 64), root=tmp_path):
        path = root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = crops(index, size)
        if "blur" in str(path.relative_to(root)):
            pixels = cv2.blur(pixels, (7, 7))
        assert cv2.imwrite(str(path), pixels)
        return path

    return write
