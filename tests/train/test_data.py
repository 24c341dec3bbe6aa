import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.restore import read_image, write_image
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


def noise(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, np.random.default_rng(len(names)).integers(0, 256, (20, 20, 3), np.uint8))
    return folder


def test_a_folder_named_for_validation_gives_val_or_test_or_all_of_it(tmp_path):
    names = [f"{name[:-1]}/{side}/{name}.png" for name in ("train1", "test1", "test2") for side in ("blur", "sharp")]
    raw = noise(tmp_path / "raw", *names)
    prepared, photos = tmp_path / "prepared", noise(tmp_path / "photos", "a.png", "b.png")
    recipe = str(Path(__file__).parents[2] / "data" / "pairs")
    assert main(["data", "prepare", recipe, "--manual-dir", str(raw), "--out", str(prepared), "--shards", "1"]) == 0

    def judged_by(train, val):
        _, (source,) = data.sources(made(train, val=(str(val),)))
        return {Path(source[i].name.split()[-1]).stem for i in range(len(source))}

    assert judged_by(raw, prepared) == judged_by(prepared, prepared) == judged_by(raw, raw) == {"test1", "test2"}
    assert judged_by(raw, photos) == {"a", "b"}
    with pytest.raises(UserError, match="photos: is trained on and has no split val or test"):
        data.sources(made(photos, val=(str(photos / ".." / "photos"),)))
    noise(tmp_path / "sorted", "train/a.png", "val/b.png", "train/old/c.png")
    assert judged_by(tmp_path / "sorted", tmp_path / "sorted" / "val") == {"b"}
    for within in ("train", "train/old"):
        with pytest.raises(UserError, match="is trained on and has no split val or test"):
            data.sources(made(tmp_path / "sorted", val=(str(tmp_path / "sorted" / within),)))
    noise(raw, "val/blur/1.png", "val/sharp/1.png")
    assert judged_by(raw, raw) == {"1"}
    # What is wrong with val is said; the split train is not taken instead.
    noise(raw, *(f"train/{side}/clip/{i}.png" for side in ("blur", "sharp") for i in (1, 2, 3)))
    with pytest.raises(UserError, match="val/sharp: no 3 consecutive frames"):
        data.sources(made(raw, val=(str(raw),), frames=3))


def test_neighbouring_frames_are_for_the_kind_frames(clips, tmp_path):
    config = made(clips("a.mp4", "b.mp4"), frames=3)
    with pytest.raises(UserError, match="has the kind 'frames': here it is 3"):
        data.recipe(config)
    config.blur.recipe = {"shares": (("frames", 0.8), ("sharp", 0.2)), "margin": 8}
    (train,), _ = data.sources(config)
    config.update({"batch": 2, "crop": ((0, 32),)})
    batch = next(data.loader(config, [train], data.recipe(config)).batches())
    assert batch["sharp"].shape == (2, 3, 48, 48, 3)
    out = tmp_path / "out"
    data.write_pairs(config, [train], out, 3)
    assert [read_image(path).shape for path in sorted(out.rglob("*.png"))] == [(32, 32, 3)] * 6


@pytest.fixture
def blurring(tmp_path):
    """`deblur data blur`, but for --out and how many."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(30):
        write_image(photos / f"{n}.png", np.random.default_rng(n).integers(0, 256, (60, 60, 3), np.uint8))
    config = tmp_path / "config.py"
    config.write_text(
        "from deblur_jax.train.config import base\n"
        "def get_config():\n"
        "    config = base()\n"
        "    config.batch, config.crop = 4, ((0, 24),)\n"
        "    config.blur.recipe = {'shares': (('gaussian', 1.0),), 'noisy': 0.0, 'compressed': 0.0, 'margin': 8}\n"
        "    return config\n"
    )
    return ["data", "blur", "--config", str(config), "--data", str(photos)]


@pytest.mark.slow
def test_pairs_are_written_and_gone_on_with(blurring, tmp_path, capsys):
    """The same pairs in one go or in two, from photographs kept apart."""

    def blur(out, train, *more, code=0):
        assert main([*blurring, "--out", str(tmp_path / out), "--train", str(train), *map(str, more)]) == code
        return {p.relative_to(tmp_path / out): p.read_bytes() for p in (tmp_path / out).rglob("*.png")}

    whole = blur("whole", 10, "--val", 3)
    assert len(whole) == 2 * 13
    blur("parts", 5)
    assert blur("parts", 10, "--val", 3) == whole
    (tmp_path / "parts/train/blur/000002.png").unlink()
    assert blur("parts", 10) == whole
    assert blur("parts", 12, "--config.seed=7", code=2) == whole
    assert "parts/train: holds pairs of another seed" in capsys.readouterr().err
    for changed in (0, 29):  # of the same name
        write_image(tmp_path / f"photos/{changed}.png", np.zeros((60, 60, 3), np.uint8), overwrite=True)
    blur("parts", 12, code=2)
    assert "parts/train: holds pairs of another seed" in capsys.readouterr().err
    blurred, sharp = (read_image(tmp_path / "whole/train" / side / "000007.png") for side in ("blur", "sharp"))
    assert blurred.shape == (24, 24, 3)
    assert 0 < blurred.std() < 0.8 * sharp.std()
    assert len(set(whole.values())) == len(whole)
    train, val = data.sources(made(tmp_path / "whole"))
    assert (len(train[0]), len(val[0]), train[0].paired) == (10, 3, True)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_stopped_command_leaves_whole_pairs(blurring, tmp_path, sent, code):
    out = tmp_path / "out/train"
    command = [sys.executable, "-m", "deblur_jax", *blurring, "--out", str(out.parent), "--train", "100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(out.glob("sharp/*.png")):
        time.sleep(0.01)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.splitlines()[-1] == "deblur data: " + ("interrupted" if code == 130 else "stopped by SIGTERM")
    assert {path.name for path in out.iterdir()} == {"blur", "sharp", "plan.json"}
    written = [path for side in ("blur", "sharp") for path in (out / side).iterdir()]
    assert [path for path in written if path.name.startswith(".")] == []
    for path in written:
        assert read_image(path).shape == (24, 24, 3)


def test_data_blur_needs_something_to_do(tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text("from deblur_jax.train.config import base as get_config\n")
    command = ["data", "blur", "--config", str(config), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "nothing to write" in capsys.readouterr().err
    assert main([*command, "--train", "3"]) == 2
    assert "config.data.train names no folder" in capsys.readouterr().err
    assert main([*command, "--train", "3", "--data", str(tmp_path)]) == 2
    assert "out: lies in" in capsys.readouterr().err
    others = ["--data", str(tmp_path / "photos"), f"--config.data.val=('{tmp_path}',)"]
    assert main([*command, "--train", "3", *others]) == 2
    assert f"out: lies in {tmp_path}," in capsys.readouterr().err
    assert main([*command, "--train", "3", "--config.optim.name=sgd"]) == 2
    assert "adamw or muon, not sgd" in capsys.readouterr().err
