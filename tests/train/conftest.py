import cv2
import numpy as np
import pytest

from deblur_jax import samples
from deblur_jax.restore import read_image
from deblur_jax.train import config as configs

# Most of the time goes into compiling, and this compiles in two seconds.
TINY = {"widths": (4,), "down_blocks": (), "middle_blocks": 1, "up_blocks": (), "branches": False}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Forty pieces of the sample photographs, sharp and box-filtered."""
    folder = tmp_path_factory.mktemp("pairs")
    # Reduced, so that there is something sharp in every small piece.
    photos = [
        cv2.resize(read_image(path), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for path in samples.PICTURES
    ]
    generator = np.random.default_rng(0)
    for i in range(40):
        photo = photos[i % len(photos)]
        top, left = (generator.integers(side - 72 + 1) for side in photo.shape[:2])
        piece = photo[top : top + 72, left : left + 72]
        sharp = cv2.cvtColor(np.rint(255 * piece).astype(np.uint8), cv2.COLOR_RGB2BGR)
        for side, pixels in (("sharp", sharp), ("blur", cv2.blur(sharp, (5, 5)))):
            (folder / side).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / side / f"piece{i}.png"), pixels)
    return folder


@pytest.fixture
def tiny(pairs):
    """A config whose steps compile in seconds; fields of it may be given."""

    def make(**fields):
        config = configs.base()
        config.network, config.variant, config.dtype = "nano", dict(TINY), "float32"
        config.data.train = (str(pairs),)
        config.steps, config.batch, config.crop = 6, 8, ((0, 32),)
        config.optim.warmup, config.log_every = 2, 1
        config.val.update({"every": 3, "count": 4, "side": 32, "pictures": 2})
        config.checkpoint.every = 3
        config.mesh.data = 1
        for name, value in fields.items():
            place, *rest = name.split("__")
            if rest:
                config[place][rest[0]] = value
            else:
                config[place] = value
        return configs.complete(config)

    return make
