"""`deblur restore` on clips: what it writes, says and returns, also when it is stopped."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time

import clips
import cv2
import jax
import numpy as np
import pytest

from deblur_jax import weights
from deblur_jax.cli import main
from deblur_jax.models import zoo


@pytest.fixture
def restore(nano, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = nano(scale=0.05)

    def restore(*arguments):
        code = main(["restore", "--model", str(model), "--device", "cpu:0", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return restore


def test_a_folder_of_both(restore, tmp_path):
    (tmp_path / "in").mkdir()
    clips.make(tmp_path / "in/a.mp4", frames=5, sound="aac")
    clips.make(tmp_path / "in/b.avi", codec="mpeg4", frames=4)
    cv2.imwrite(str(tmp_path / "in/c.png"), clips.photograph())
    (tmp_path / "in/d.mkv").write_text("no clip")
    (tmp_path / "in/e.ts").write_text("export const typed: string")
    code, out, err = restore("in", "-o", "out", "--dry-run")
    assert "in/b.avi -> out/b.mkv" in out
    assert not (tmp_path / "out").exists()
    code, out, err = restore("in", "-o", "out")
    assert code == 1
    assert [line for line in err.splitlines() if "d.mkv" in line] == [
        "deblur restore: in/d.mkv: not a readable clip: Invalid data found when processing input"
    ]
    assert "1 files of other kinds" in err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.mp4", "b.mkv", "c.png"]
    assert re.search(
        r"out/a.mp4 +64x48 5 frames, [\d.e+]+ a second \([\d.]+ s; decode [\d.]+, network [\d.]+, enc", out
    )
    assert restore("in/a.mp4", "-o", "out")[0] == 2
    code, out, _ = restore("in/a.mp4", "-o", "out", "--skip-existing")
    assert (code, "exists, passed over" in out) == (0, True)
    assert restore("in/a.mp4", "-o", "out", "--overwrite", "--format", "mov")[0] == 0
    assert (tmp_path / "out/a.mov").exists()


def test_lines_for_programs(restore, tmp_path):
    clips.make(tmp_path / "in.mp4", frames=6)
    code, out, _ = restore("in.mp4", "--json", "--selective", "0")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["done"] for e in events if e["event"] == "progress"][-1] == 1.0
    (said,) = (e for e in events if e["event"] == "picture")
    assert said["output"] == "in-sharp.mp4"
    assert said["clip"]["frames"] == said["clip"]["skipped"] == 6
    assert set(said["clip"]) >= {"decode", "network", "encode", "seconds", "frames_per_second"}


def test_side_by_side(restore, tmp_path):
    clips.make(tmp_path / "in.mp4", frames=4, sound="aac")
    lossless = ("--codec", "ffv1", "--compare", "both")
    assert restore("in.mp4", "-o", "out.mkv", *lossless)[0] == 0
    both, before, after = (clips.planes(tmp_path / name) for name in ("both/out.mkv", "in.mp4", "out.mkv"))
    np.testing.assert_array_equal(both, np.concatenate([before, after], 2))
    assert clips.said(tmp_path / "both/out.mkv")["others"] == clips.said(tmp_path / "out.mkv")["others"] != []
    for folder, shift in (("one", 0), ("two", 9)):
        (tmp_path / "in" / folder).mkdir(parents=True)
        picture = lambda w, h, n, shift=shift: clips.photograph(w, h, n + shift)  # noqa: E731
        clips.make(tmp_path / "in" / folder / "a.mkv", codec="ffv1", frames=2, picture=picture)
    assert restore("in", "-o", "out", "--compare", "of the folder")[0] == 0
    for folder, name in (("one", "a.mkv"), ("two", "a-2.mkv")):
        both = clips.planes(tmp_path / "of the folder" / name)
        np.testing.assert_array_equal(both[:, :, :64], clips.planes(tmp_path / "in" / folder / "a.mkv"))
    code, _, err = restore("in.mp4", "-o", "new/out.mkv", *lossless)
    assert (code, "exists already, so there is no comparison" in err) == (2, True)


def test_pictures_in_and_out(restore, tmp_path):
    clips.make(tmp_path / "in.mp4", frames=3)
    assert restore("in.mp4", "-o", "frames/%02d.jpg", "--quality", "90")[0] == 0
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == ["01.jpg", "02.jpg", "03.jpg"]
    assert restore("frames/%02d.jpg", "--fps", "25", "-o", "back.mp4")[0] == 0
    assert clips.said(tmp_path / "back.mp4")["size"] == (64, 48)


def test_numbered_pictures_replace_none_unasked(restore, tmp_path):
    clips.make(tmp_path / "in.mp4", frames=3)
    (tmp_path / "o").mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"o/{number}.png"), clips.photograph(shift=number))
    before = {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir()}
    for source in (["in.mp4"], ["o/%d.png", "--fps", "5"]):
        code, _, err = restore(*source, "-o", "o/%01d.png")
        assert (code, "o/1.png: exists already; --overwrite replaces it" in err) == (2, True)
    code, _, err = restore("o/%d.png", "--fps", "5", "-o", "o/%01d.png", "--overwrite")
    assert (code, "o/1.png: would be replaced before it is read" in err) == (2, True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir()} == before
    assert restore("in.mp4", "-o", "o/%d.png", "--overwrite")[0] == 0
    after = {path.name for path in (tmp_path / "o").iterdir() if path.read_bytes() != before[path.name]}
    assert after == {"1.png", "2.png", "3.png"}
    (tmp_path / "o/0.png").unlink()
    assert restore("o/%d.png", "--fps", "5", "-o", "o/%01d.png", "--overwrite")[0] == 0


def test_a_hook(restore, tmp_path):
    clips.make(tmp_path / "in.mp4", frames=3)
    (tmp_path / "behind.py").write_text(
        "calls = []\ndef see(frame, time): calls.append((frame.shape, time))\n"
        "def fail(frame, time): raise ValueError('no such\\nframe')\n"
        "def draw(frame, time): frame[:] = 0\n"
    )
    # Without loss: once in some thousand times x264 encodes the same frames in another way.
    assert restore("in.mp4", "-o", "out.mkv", "--codec", "ffv1", "--hook", "behind:see")[0] == 0
    assert restore("in.mp4", "-o", "drawn.mkv", "--codec", "ffv1", "--hook", "behind:draw")[0] == 0
    np.testing.assert_array_equal(clips.planes(tmp_path / "drawn.mkv"), clips.planes(tmp_path / "out.mkv"))
    assert sys.modules["behind"].calls == [((48, 64, 3), pytest.approx(n / 25)) for n in range(3)]
    code, _, err = restore("in.mp4", "-o", "other.mp4", "--hook", "behind:fail")
    assert code == 2
    assert err == "deblur restore: in.mp4: --hook behind:fail failed at 0.000 s: ValueError: no such\n"
    assert not list(tmp_path.glob("*other*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.mp4", "--start", "soon"], "--start must be seconds or H:MM:SS"),
        (["in.mp4", "--start", "2", "--end", "1:00:00", "--every", "0"], "--every must be"),
        (["in.mp4", "--start", "0:05", "--end", "3"], "must be later"),
        (["in.mp4", "--every", "9" * 20], "--every must be"),
        (["in.mp4", "--start", "9" * 400], "--start must be below a thousand million seconds"),
        (["in.mp4", "--start", "9" * 9], "there is no frame in it from 1e+09 s on"),
        (["in.mp4", "--crf", "-1"], "--crf must be"),
        (["in.mp4", "-o", "out.mkv", "--codec", "mpeg4", "--crf", "32"], "--crf of mpeg4 is from 0 to 31"),
        (["in.mp4", "--max-pixels", "0.003"], "64x48 pixels are more than the limit of 0.003 million"),
        (["in.mp4", "--compare", "."], "--compare .: needs a folder of its own, and in.mp4 is in this one"),
        (["in.mp4", "-o", "new/in.mp4", "--compare", "new"], "needs a folder of its own, and new/in.mp4 is in"),
        (["in.mp4", "--quality", "90"], "of clips it is --crf"),
        (["in.mp4", "--fps", "25"], "--fps is for numbered pictures"),
        (["in.mp4", "--fps", "0"], "--fps must be"),
        (["in.mp4", "-o", "out.gif"], "clips cannot be written as .gif"),
        (["in.mp4", "-o", "o%d.png", "--codec", "vp9"], "are for clips, not for pictures"),
        (["in.mp4", "--hook", "json"], "MODULE:FUNCTION"),
        (["in.mp4", "--hook", "json:nothing"], "AttributeError"),
        (["in.mp4", "--hook", "json:__name__"], "is no function"),
        (["in.mp4", "--region", "100,0,5,5"], "outside the picture"),
        (["p.png", "--codec", "vp9"], "--codec is for clips, and there are none"),
        (["p.png", "--crf", "1"], "--crf is for clips, and there are none"),
        (["p.png", "--compare", ".", "--overwrite"], "--compare .: needs a folder of its own, and p.png is in"),
        (["p.png", "--max-pixels", "nan"], "--max-pixels must be millions"),
        (["%d.png", "--fps", "5", "-o", "out.mp4"], "%d.png: no such pictures"),
    ],
)
def test_mistakes_with_clips(restore, tmp_path, arguments, message):
    clips.make(tmp_path / "in.mp4", frames=2)
    cv2.imwrite(str(tmp_path / "p.png"), clips.photograph())
    before = sorted(p.name for p in tmp_path.iterdir())
    code, _, err = restore(*arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.fixture
def whole(random_variables, tmp_path):
    """A command of its own process, with weights of the real Nano."""
    params = jax.tree.map(np.asarray, random_variables(zoo.get("nano").deployed())["params"])
    params["tail"] = jax.tree.map(lambda leaf: 0.05 * leaf, params["tail"])
    weights.save(tmp_path / "whole.safetensors", network="nano", params=params, card={}, merged=True)
    return [sys.executable, "-m", "deblur_jax", "restore", "--model", str(tmp_path / "whole.safetensors")]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_stopped_command_goes_on(whole, tmp_path, sent, code):
    """At 160x96 a segment of 120 frames takes a second or two."""
    source = clips.make(tmp_path / "in.mp4", size=(160, 96), frames=400, sound="aac")
    command = [*whole, str(source), "-o", str(tmp_path / "out.mp4")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob(".out.mp4.deblur/*.segment")):
        time.sleep(0.01)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "the same command goes on where it stopped" in err
    assert "Traceback" not in err
    assert not (tmp_path / "out.mp4").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert re.search(r"; (120|240|360) were there already", done.stdout)
    assert clips.said(tmp_path / "out.mp4") == clips.said(source)
    assert len(clips.pixels(tmp_path / "out.mp4")) == 400


@pytest.mark.slow
@pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0, reason="needs root")
def test_a_full_disk(whole, tmp_path):
    """No clip rather than a broken one."""

    def noise(width, height, shift):
        return np.random.default_rng(shift).integers(0, 256, (height, width, 3), np.uint8)

    source = clips.make(tmp_path / "in.mp4", size=(160, 96), frames=60, picture=noise)
    (tmp_path / "disk").mkdir()
    command = shlex.join([*whole, str(source), "-o", f"{tmp_path}/disk/out.mp4"])
    run = f"{command}; code=$?; ls {tmp_path}/disk; exit $code"
    script = f"mount -t tmpfs -o size=600k none {tmp_path}/disk && {run}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=90)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert done.stdout == ""
