import av
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.train import config as configs
from deblur_jax.train import data


@pytest.fixture
def clips(tmp_path):
    """Clips of twelve frames of noise."""
    generator = np.random.default_rng(0)

    def write(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libx264", rate=25)
                stream.width = stream.height = 64
                for _ in range(12):
                    pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode())
        return tmp_path

    return write


def named(source):
    return {source[i].name.split(",")[0].rsplit("/", 1)[1] for i in range(len(source))}


def made(folder, **fields):
    config = configs.base()
    config.data.train = (str(folder),)
    config.data.update(fields)
    return configs.complete(config)


def test_whole_clips_are_kept_aside(clips):
    names = {f"{i}.mp4" for i in range(4)}
    (train,), (val,) = data.sources(made(clips(*names)))
    assert named(train) | named(val) == names
    assert not named(train) & named(val)
    assert named(val)
    # Another clip changes nothing about those that were there, unless it is kept aside itself.
    (_,), (more,) = data.sources(made(clips("4.mp4")))
    assert named(more) in (named(val), {"4.mp4"})


def test_a_single_clip_is_too_few(clips):
    with pytest.raises(UserError, match="a single clip"):
        data.sources(made(clips("a.mp4")))


def test_neighbouring_frames_are_for_the_kind_frames(clips):
    config = made(clips("a.mp4", "b.mp4"), frames=3)
    with pytest.raises(UserError, match="has the kind 'frames': here it is 3"):
        data.recipe(config)
    config.blur.recipe = {"shares": (("frames", 0.8), ("sharp", 0.2)), "margin": 8}
    (train,), _ = data.sources(config)
    config.update({"batch": 2, "crop": ((0, 32),)})
    batch = next(data.loader(config, [train], data.recipe(config)).batches())
    assert batch["sharp"].shape == (2, 3, 48, 48, 3)
