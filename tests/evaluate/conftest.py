"""Weights of Nano that do something gentle, and pairs in folders."""

import cv2
import jax
import numpy as np
import pytest

from deblur_jax import samples, weights
from deblur_jax.models import zoo
from deblur_jax.models.nano import Nano, NanoConfig, merge


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


@pytest.fixture
def nano(random_variables, tmp_path, monkeypatch):
    """Saves weights of a Nano whose last layer is scaled down; returns the file's path.

    The zoo's Nano is a small one meanwhile, for the compiler's sake; the real one's facts hold for it all the more.
    """
    tiny = NanoConfig(widths=(6, 8), down_blocks=(1,), middle_blocks=1, up_blocks=(1,))
    monkeypatch.setitem(zoo.NETWORKS, "nano", zoo.Network(Nano, tiny, "ours", merge))

    def nano(name="mild.safetensors", *, seed=0, scale=0.02):
        params = jax.tree.map(np.asarray, random_variables(zoo.get("nano").deployed(), seed=seed))["params"]
        params["tail"] = jax.tree.map(lambda leaf: scale * leaf, params["tail"])
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        weights.save(tmp_path / name, network="nano", params=params, card={"data": "noise"}, merged=True)
        return tmp_path / name

    return nano
