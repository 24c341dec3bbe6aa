"""Live video: the newest frame, within a budget, from sources that come and go."""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.request

import av
import clips
import cv2
import numpy as np
import pytest

from deblur_jax.cli import main
from deblur_jax.errors import UserError
from deblur_jax.restore.live import Live, Recording, open_source
from deblur_jax.restore.preview import Preview


def slow(seconds):
    """Stands for a network that takes its time."""

    def restore(picture):
        time.sleep(seconds)
        return picture

    return restore


class Camera:
    """Numbered frames at a rate; the number is in the pixels."""

    def __init__(self, frames, rate, first=0):
        self._numbers, self._step = iter(range(first, first + frames)), 1 / rate

    def read(self):
        number = next(self._numbers, None)
        time.sleep(self._step)
        return number is not None, None if number is None else np.full((4, 4, 3), number, np.uint8)

    def release(self):
        pass


def shown(live):
    numbers, ages = [], []

    def show(before, after, at):
        numbers.append(int(after[0, 0, 0]))
        ages.append(time.monotonic() - at)

    live.run(show)
    return numbers, ages


def test_under_load_frames_are_dropped_and_the_latency_stays():
    """Fifty frames a second come, the network does ten."""
    live = Live(lambda: Camera(50, 50), slow(0.1), budget=0.15, ends=True)
    numbers, ages = shown(live)
    achieved = live.achieved
    assert achieved.arrived == 50
    assert achieved.shown == len(numbers)
    assert 5 <= len(numbers) <= 12
    assert achieved.dropped == 50 - len(numbers)
    assert numbers == sorted(set(numbers))
    # A queue would let the last frame wait for almost a second and more.
    assert np.median(ages) < 0.25
    assert achieved.as_dict()["latency_median"] < 0.25


def test_without_load_none_is_dropped():
    live = Live(lambda: Camera(10, 20), slow(0.0), budget=0.2, ends=True)
    numbers, _ = shown(live)
    assert len(numbers) >= 9  # the first one may go while the network is compiled
    assert live.achieved.dropped == 10 - len(numbers)


def test_a_source_that_dies_and_returns():
    """Six frames, twice nothing, six more, and again: opened with a growing wait, until it is told to stop."""
    sources = [Camera(6, 100), None, None, Camera(6, 100, first=10), Camera(6, 100, first=20)]
    opened_at = []

    def opened():
        opened_at.append(time.monotonic())
        return sources.pop(0) if sources else None

    live = Live(opened, slow(0.0), budget=1.0, waits=(0.05, 0.1, 0.2, 30.0))
    seen = set()

    def show(before, after, at):
        seen.add(int(after[0, 0, 0]) // 10)
        if after[0, 0, 0] >= 24:
            live.over.set()

    live.run(show)
    assert seen == {0, 1, 2}
    assert live.achieved.reopened >= 4
    waits = np.diff(opened_at)[:4]
    assert waits[0] < 0.06 + 6 * 0.02 + 0.1  # six frames, then the first wait
    assert waits[1] >= 0.1
    assert waits[2] >= 0.2


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (cv2.error("(-5:Bad argument)\n> and more"), "the source cannot be read: error: .-5:Bad argument.$"),
        (UserError("of its own"), "^of its own$"),
    ],
)
def test_a_source_that_fails_ends_it(error, message):
    def opened():
        raise error

    with pytest.raises(UserError, match=message):
        Live(opened, slow(0.0), budget=1.0).run(lambda *_: None)


@pytest.mark.parametrize(("name", "message"), [("99999999999999999999", "above 9999"), ("²", "no such file")])
def test_numbers_that_no_camera_has(name, message):
    with pytest.raises(UserError, match=message):
        open_source(name)


def test_the_page(capfd):
    preview = Preview(0, lambda: {"frames_per_second": 12.5})
    try:
        page = urllib.request.urlopen(preview.address, timeout=5).read()
        assert b"<img src=stream" in page
        assert json.load(urllib.request.urlopen(f"{preview.address}achieved", timeout=5)) == {"frames_per_second": 12.5}
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{preview.address}other", timeout=5)
        stop = threading.Event()

        def play():
            while not stop.wait(0.02):
                preview.show(np.zeros((20, 30, 3), np.uint8), np.full((20, 30, 3), 200, np.uint8))

        player = threading.Thread(target=play, daemon=True)
        player.start()
        with urllib.request.urlopen(f"{preview.address}stream", timeout=5) as stream:
            assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
            data = b"".join(stream.read(300) for _ in range(8))
        stop.set()
        player.join()
        assert data.count(b"--frame") >= 2
        assert b"\xff\xd8\xff" in data
        address = preview.address.rsplit(":", 1)[1].strip("/")
        for asked in (b"GET /achieved HTTP/1.0\r\n\r\n", b"GET /stream HTTP/1.0\r\n\r\n", b"GET / HT"):
            with socket.create_connection(("127.0.0.1", int(address))) as gone:
                gone.sendall(asked)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is reset
        time.sleep(0.2)
        assert capfd.readouterr().err == ""
        with pytest.raises(UserError, match="cannot be opened"):
            Preview(int(preview.address.rsplit(":", 1)[1].strip("/")), dict)
    finally:
        preview.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_recordings(tmp_path, suffix):
    recording = Recording(tmp_path / f"live{suffix}")
    for n in range(5):
        recording.add(clips.photograph(65, 49, shift=n), 100 + n / 10)
    recording.close()
    found = clips.pixels(tmp_path / f"live{suffix}")
    assert found.shape == (5, 48, 64, 3)
    assert np.abs(found[2].astype(int) - clips.photograph(65, 49, shift=2)[:48, :64]).mean() < 8
    assert [round(float(t), 2) for t in clips.said(tmp_path / f"live{suffix}")["times"]] == [0, 0.1, 0.2, 0.3, 0.4]
    with pytest.raises(UserError, match="recordings are"):
        Recording(tmp_path / "live.gif")


def test_a_recording_that_is_cut_off_plays(tmp_path):
    recording = Recording(tmp_path / "live.mp4")
    for n in range(70):
        recording.add(clips.photograph(shift=n % 3), n / 30)
    with av.open(str(tmp_path / "live.mp4")) as clip:  # it was never closed
        assert sum(1 for _ in clip.decode(video=0)) >= 30
    recording.close()


@pytest.mark.parametrize(("height", "width"), [(1, 40), (40, 1)])
def test_frames_too_small_to_record(tmp_path, height, width):
    recording = Recording(tmp_path / "live.mp4")
    with pytest.raises(UserError, match=f"frames of {width}x{height} are too small"):
        recording.add(np.zeros((height, width, 3), np.uint8), 0.0)
    recording.close()
    assert not (tmp_path / "live.mp4").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_ends_the_recording_well(nano, tmp_path, monkeypatch, capsys, sent, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(os, "_exit", sys.exit)
    (tmp_path / f"sends_{code}.py").write_text(
        f"import signal\nseen = []\ndef one(picture, at):\n    seen.append(at)\n"
        f"    if len(seen) == 4: signal.raise_signal({sent:d})\n"
    )
    clips.make(tmp_path / "in.mp4", frames=500)  # of which the first second or two pass while the network is compiled
    command = ["live", "in.mp4", "--model", str(nano()), "--device", "cpu:0", "--no-page", "--json"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--budget", "500", "--record", "out.mp4", "--hook", f"sends_{code}:one"])
    assert stopped.value.code == code
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["event"] == "done"
    assert said["arrived"] < 500
    assert len(clips.pixels(tmp_path / "out.mp4")) == said["shown"] == 3


def test_an_exported_network(nano, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(nano()), "--to", "stablehlo", "-o", "exported"]) == 0
    clips.make(tmp_path / "in.mp4", frames=1)  # after which none comes while the network is compiled
    capsys.readouterr()
    assert main(["live", "in.mp4", "--model", "exported", "--no-page", "--json", "--budget", "500"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["shown"] == 1


def test_a_file_as_the_source(nano, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = nano(scale=0.05)
    clips.make(tmp_path / "in.mp4", frames=50)
    command = ["live", "in.mp4", "--model", str(model), "--device", "cpu:0", "--no-page", "--record", "out.mkv"]
    began = time.monotonic()
    assert main([*command, "--json", "--budget", "500"]) == 0
    assert time.monotonic() - began > 1.5  # two seconds of film, in real time
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["event"] == "done"
    assert said["arrived"] == 50
    assert said["shown"] + said["dropped"] == 50
    assert said["shown"] == len(clips.pixels(tmp_path / "out.mkv")) > 0
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "in.mp4")
    for arguments, message in [
        (["nowhere.mp4"], "no such file"),
        (["in.mp4", "--budget", "0"], "--budget must be"),
        (["in.mp4", "--record", "out.mkv"], "exists already"),
        (["in.mp4", "--hook", "json"], "MODULE:FUNCTION"),
        (["in.mp4", "--record", "in.mp4", "--overwrite"], "in.mp4: is the source"),
        (["in.mp4", "--record", "hard.mp4", "--overwrite"], "hard.mp4: is the source"),
        ([f"file://{tmp_path / 'in.mp4'}", "--record", "in.mp4", "--overwrite"], "in.mp4: is the source"),
        (["in.mp4", "--record", "none/out.mkv", "--model", str(model)], "none/out.mkv: cannot be written"),
        (["in.mp4", "--seconds", "0"], "--seconds must be above 0"),
        (["in.mp4", "--port", "70000"], "--port must be from 0 to 65535"),
        (["in.mp4", "--budget", "nan"], "--budget must be"),
        (["in.mp4", "--no-page", "--hook", "os:mkdir", "--model", str(model)], "--hook os:mkdir failed at"),
    ]:
        assert main(["live", *arguments]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "bad.mp4").write_text("no clip")
    kept = (tmp_path / "out.mkv").read_bytes()
    record = ["--record", "out.mkv", "--overwrite"]
    assert main(["live", "bad.mp4", "--model", str(model), "--no-page", *record]) == 2
    assert "no frame came" in capsys.readouterr().err
    assert (tmp_path / "out.mkv").read_bytes() == kept
    assert main(["live", "97", "--model", str(model), "--no-page", "--seconds", "0.5"]) == 2  # there is no such camera
    said = capsys.readouterr().err
    assert said.count("97: gives nothing; waiting for it\n") == 1
    assert "97: no frame came" in said
    with pytest.raises(UserError, match="no such file"):
        open_source("nowhere")
