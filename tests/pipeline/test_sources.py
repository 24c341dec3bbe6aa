import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.pipeline import checks, sources
from deblur_jax.restore.video_io import read_frames

RNG = np.random.default_rng(0)


def write(path, value=None, size=(12, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (*size, 3), np.uint8) if value is None else np.full((*size, 3), value, np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


@pytest.fixture
def pair_folder(tmp_path):
    for sequence, frames in (("a", 4), ("b", 2)):
        for frame in range(frames):
            for side in ("blur", "sharp"):
                write(tmp_path / side / sequence / f"{frame:03}.png")
    return tmp_path


def test_pairs(pair_folder):
    source = sources.open_source(pair_folder)
    assert len(source) == 6
    assert source.paired
    item = source[4]
    assert item.sharp == ((pair_folder / "sharp/b/000.png").read_bytes(),)
    assert item.blur == ((pair_folder / "blur/b/000.png").read_bytes(),)
    assert item.name.endswith("sharp/b/000.png")


def test_windows_stay_in_their_sequence(pair_folder):
    source = sources.open_source(pair_folder, frames=3)
    assert len(source) == 2
    item = source[1]
    assert item.sharp == tuple((pair_folder / f"sharp/a/{i:03}.png").read_bytes() for i in (1, 2, 3))
    assert item.name.endswith("a/002.png")
    with pytest.raises(UserError, match="no 5 consecutive frames"):
        sources.open_source(pair_folder, frames=5)
    with pytest.raises(UserError, match="odd"):
        sources.open_source(pair_folder, frames=2)


def test_windows_do_not_bridge_gaps():
    places = [("a", 0), ("a", 1), ("a", 3), ("a", 4), ("a", 5), ("b", 6)]
    assert sources.windows(places, 3, "x") == [range(2, 5)]
    assert len(sources.windows(places, 1, "x")) == 6


def test_photographs(tmp_path):
    for name in ("b.jpg", "a.png", "more/c.webp"):
        write(tmp_path / name)
    source = sources.open_source(tmp_path)
    assert not source.paired
    assert [source[i].name for i in range(3)] == [str(tmp_path / n) for n in ("a.png", "b.jpg", "more/c.webp")]
    with pytest.raises(UserError, match="no split val; there are train"):
        sources.open_source(tmp_path, split="val")


def clip(path, frames=30, rate=25, gop=12, size=(48, 64), colour=None, pixel_format="yuv444p"):
    """H.264 with B frames; frame i is of grey 8 i, or all are of one colour."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"bf": "2", "g": str(gop), "qp": "1"})
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), colour or 8 * i % 256, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_clips_give_exactly_the_frames_asked_for(tmp_path):
    clip(tmp_path / "one.mp4")
    clip(tmp_path / "two.mkv", frames=7)
    source = sources.open_source(tmp_path, frames=3)
    assert len(source) == 28 + 5
    for index, expected in ((0, (0, 1, 2)), (11, (11, 12, 13)), (27, (27, 28, 29)), (28, (0, 1, 2)), (32, (4, 5, 6))):
        means = [frame.mean() for frame in source[index].sharp]
        assert np.abs(np.array(means) - 8 * np.array(expected)).max() < 2, index
    assert source[28].name.endswith("two.mkv, frame 1")
    with pytest.raises(IndexError):
        source[33]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("rows", [480, 720])
def test_clips_have_the_colours_that_are_restored(tmp_path, rows, pixel_format):
    """From 720 rows on a clip without a tag has another matrix."""
    clip(tmp_path / "a.mkv", frames=2, size=(rows, 64), colour=(200, 40, 60), pixel_format=pixel_format)
    given = sources.open_source(tmp_path)[1].sharp[0]
    assert given.dtype == np.uint8
    np.testing.assert_array_equal(given, np.rint(255 * read_frames(tmp_path / "a.mkv", count=2)[1]))


def test_clips_in_a_relative_folder_with_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "va:cation" / "a.mp4", frames=3)
    assert sources.open_source("va:cation")[2].sharp[0].shape == (48, 64, 3)


def test_an_empty_split_is_not_shown(pair_folder, tmp_path_factory, capsys):
    for split in ("train", "val"):
        (pair_folder / split).mkdir()
    for side in ("blur", "sharp"):
        (pair_folder / side).rename(pair_folder / "train" / side)
    sheet = tmp_path_factory.mktemp("out") / "sheet.png"
    assert main(["data", "show", str(pair_folder), "--split", "val", "-o", str(sheet)]) == 2
    assert capsys.readouterr().err.endswith(f"{pair_folder}: val is empty; there are train\n")
    assert main(["data", "show", str(pair_folder), "-o", str(sheet)]) == 0


def test_clips_that_are_none(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"not a video at all" * 100)
    with pytest.raises(UserError, match=r"bad.mp4: not a readable video"):
        sources.open_source(tmp_path)


def test_a_damaged_clip_is_named(tmp_path):
    clip(tmp_path / "a.mkv", frames=40, gop=40)
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    source = sources.open_source(tmp_path)
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 3])
    with pytest.raises(UserError, match=r"a.mkv, frame 39: "):
        source[39]


def test_a_file_that_vanishes_is_named(pair_folder):
    source = sources.open_source(pair_folder)
    (pair_folder / "blur/a/001.png").unlink()
    with pytest.raises(UserError, match=r"blur/a/001.png: No such file"):
        source[1]


def test_a_prepared_dataset_reads_like_its_folder(pair_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    raw = ["--manual-dir", str(pair_folder), "--out", str(out / "set"), "--shards", "2"]
    assert main(["data", "prepare", str(Path(__file__).parents[2] / "data" / "pairs"), *raw]) == 0
    for frames in (1, 3):
        plain, prepared = (sources.open_source(folder, frames=frames) for folder in (pair_folder, out / "set"))
        assert len(plain) == len(prepared)
        assert prepared.paired
        for i in range(len(plain)):
            assert plain[i][1:] == prepared[i][1:]
    assert prepared[1].name.endswith("train, a/002")
    with pytest.raises(UserError, match="no split val; there are train"):
        sources.open_source(out / "set", split="val")
    places = json.loads((out / "set" / "frames.json").read_text())
    (out / "set" / "frames.json").write_text(json.dumps({"train": places["train"][:-1]}))
    with pytest.raises(UserError, match=r"6 records, frames.json names 5"):
        sources.open_source(out / "set")


_SECOND_SHARD = "pairs-train.array_record-00001-of-00002"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (_SECOND_SHARD, None, f"{_SECOND_SHARD}: missing; prepare the dataset again"),
        (_SECOND_SHARD, lambda whole: whole[:70_000], f"{_SECOND_SHARD}: record 3 of train: cannot be read"),
        (_SECOND_SHARD, lambda whole: b"", f"{_SECOND_SHARD}: record 3 of train: cannot be read"),
        ("dataset_info.json", lambda whole: b"{", "dataset_info.json or features.json is damaged; prepare"),
        ("features.json", lambda whole: b"null", "dataset_info.json or features.json is damaged; prepare"),
        ("frames.json", lambda whole: b"{", "frames.json is damaged; prepare the dataset again"),
        ("frames.json", lambda whole: b'{"train": [3]}', "frames.json is damaged; prepare the dataset again"),
        ("frames.json", lambda whole: b'{"more": [["a", 0]]}', "more has no records, frames.json names 1"),
        ("frames.json", lambda whole: whole.replace(b"b", b"c"), "record 4 of train: is not the frame that"),
    ],
)
def test_a_damaged_prepared_dataset_is_one_line(name, content, message, pair_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "set"
    raw = ["--manual-dir", str(pair_folder), "--out", str(out), "--shards", "2"]
    assert main(["data", "prepare", str(Path(__file__).parents[2] / "data" / "pairs"), *raw]) == 0
    damaged = content and content((out / name).read_bytes())
    (out / name).unlink()
    if content:
        (out / name).write_bytes(damaged)

    def train():
        split = "more" if "more" in message else "train"
        return [sources.open_source(out, split=split)[i] for i in range(6)]

    def check():
        return [entry.read() for entries in checks.open_folder(out)[1].values() for entry in entries]

    for use in (train, check):
        with pytest.raises(UserError, match=message) as raised:
            use()
        assert "\n" not in str(raised.value)
        assert str(out) in str(raised.value)


def test_clips_are_checked_and_shown(tmp_path, capsys):
    clip(tmp_path / "clips" / "good.mp4")
    assert main(["data", "check", str(tmp_path / "clips")]) == 0
    assert "8 examples of 1 sequences, 8 decoded; 8 of 64x48" in capsys.readouterr().out
    assert main(["data", "show", str(tmp_path / "clips"), "-o", str(tmp_path / "sheet.png")]) == 0
    (tmp_path / "clips" / "bad.mp4").write_bytes(b"not a video at all" * 100)
    assert main(["data", "check", str(tmp_path / "clips")]) == 1
    assert "bad.mp4: not a readable video" in capsys.readouterr().out
