"""Clips that are damaged or odd: what can be read is saved and the loss is said; or nothing is written."""

from fractions import Fraction

import av
import clips
import jax
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.restore import video
from deblur_jax.restore.options import ClipOptions, Options
from deblur_jax.restore.restorer import Restorer
from deblur_jax.restore.segments import Segments


@pytest.fixture
def restore(nano, tmp_path):
    restorer = Restorer(nano(scale=0.05), devices=jax.devices()[:1])
    return lambda source, name="out.mp4", **settings: video.restore(
        source, tmp_path / name, lambda: restorer, Options(clip=ClipOptions(**settings))
    )


def refused(restore, source, message, tmp_path, **settings):
    with pytest.raises(UserError, match=message) as error:
        restore(source, **settings)
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_no_clip_at_all(restore, tmp_path):
    (tmp_path / "text.mp4").write_text("no clip")
    refused(restore, tmp_path / "text.mp4", "text.mp4: not a readable clip", tmp_path)
    (tmp_path / "empty.mp4").write_bytes(b"")
    refused(restore, tmp_path / "empty.mp4", "empty.mp4: not a readable clip", tmp_path)
    refused(restore, tmp_path / "none.mp4", "none.mp4: not a readable clip: No such file", tmp_path)
    clips.make(tmp_path / "in.mp4", frames=5)
    refused(restore, tmp_path / "in.mp4", "--fps is for numbered pictures", tmp_path, fps=25.0)


def test_no_video_stream(restore, tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 48000
        out.mux(stream.encode(tone))
        out.mux(stream.encode(None))
    refused(restore, tmp_path / "sound.mp4", "has no video in it", tmp_path)


def test_no_frames(restore, tmp_path):
    with av.open(str(tmp_path / "none.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
    refused(restore, tmp_path / "none.mkv", "no frame in it can be decoded|not a readable clip", tmp_path)


def test_an_unknown_codec(restore, tmp_path):
    source = clips.make(tmp_path / "in.mp4", frames=3)
    source.write_bytes(source.read_bytes().replace(b"avc1", b"zzzz"))
    refused(restore, source, "a codec that cannot be decoded|no frame in it", tmp_path)


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_one_frame(restore, tmp_path, codec):
    source = clips.make(tmp_path / "in.mp4", frames=1, sound="aac", codec=codec)
    assert restore(source).frames == 1
    assert clips.said(tmp_path / "out.mp4") == clips.said(source)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libvpx-vp9", ".webm"), ("libsvtav1", ".mkv"), ("mpeg4", ".mkv"), ("ffv1", ".mkv")]
)
def test_odd_sides(restore, tmp_path, codec, suffix):
    source = clips.make(tmp_path / f"in{suffix}", codec=codec, size=(65, 49) if codec != "libsvtav1" else (66, 50))
    restore(source, f"out{suffix}")
    assert clips.said(tmp_path / f"out{suffix}")["size"] == clips.said(source)["size"]
    note = restore(source, "h264.mkv", codec="h264").notes
    assert clips.said(tmp_path / "h264.mkv")["size"] == clips.said(source)["size"]
    assert ("written as yuv444p: yuv420p of h264 has even sides" in note) == (codec != "libsvtav1")


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv", "in.ts"])
def test_broken_packets_in_the_middle(restore, tmp_path, name):
    source = clips.make(
        tmp_path / name, frames=24, sound="aac", options={"g": "6", "bf": "0" if name != "in.ts" else "3"}
    )
    with av.open(str(source)) as clip:
        there = [p for p in clip.demux(video=0) if p.size]
        places = [bytes(p) for p in there[8:10]]
    data = source.read_bytes()
    if name != "in.ts":
        for place in places:
            assert data.count(place) == 1
            data = data.replace(place, bytes(len(place)))
    else:
        middle = len(data) // 2 // 188 * 188
        data = data[:middle] + bytes(5 * 188) + data[middle + 5 * 188 :]
    source.write_bytes(data)
    target = f"out{source.suffix}"
    report = restore(source, target)
    assert 15 <= report.frames <= 24
    assert any("missing" in note or "damaged" in note for note in report.notes), report.notes
    times = clips.said(tmp_path / target)["times"]
    assert len(times) == report.frames == len(clips.pixels(tmp_path / target))
    assert set(times) <= set(clips.said(source)["times"])


@pytest.mark.parametrize("name", ["in.mp4", "in.mkv"])
def test_a_file_that_was_cut_off(restore, tmp_path, name):
    options = {"movflags": "faststart"} if name == "in.mp4" else {}
    source = clips.make(tmp_path / name, frames=24, options={"g": "6"}, container_options=options)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 8 // 10])
    report = restore(source)
    assert 6 <= report.frames < 24
    assert report.frames == len(clips.pixels(tmp_path / "out.mp4"))
    if name == "in.mp4":  # a Matroska file does not say how many there should be
        assert any("missing" in note or "cannot be" in note for note in report.notes), report.notes


def test_a_size_that_changes(restore, tmp_path):
    """Two transport streams, one behind the other, as recorders write them."""
    small, large = clips.make(tmp_path / "a.ts", frames=6), clips.make(tmp_path / "b.ts", frames=6, size=(96, 64))
    source = tmp_path / "in.ts"
    source.write_bytes(small.read_bytes() + large.read_bytes())
    report = restore(source, "out.mkv")
    found = clips.pixels(tmp_path / "out.mkv")
    assert found.shape == (report.frames, 48, 64, 3)
    assert report.frames == 12
    assert "6 frames of another size were scaled to the first one's" in report.notes
    # The second half shows the same photograph, scaled.
    assert np.abs(found[0].astype(float).mean((0, 1)) - found[-1].mean((0, 1))).max() < 40


def test_a_clock_that_begins_again(restore, tmp_path):
    once = clips.make(tmp_path / "a.ts", frames=12, sound="aac", options={"bf": "3"})
    source = tmp_path / "in.ts"
    source.write_bytes(2 * once.read_bytes())
    report = restore(source, "out.mkv")
    assert report.frames == len(clips.pixels(tmp_path / "out.mkv")) == 24
    assert any(note.startswith("its clock begins again") for note in report.notes), report.notes
    assert not any("cannot be decoded" in note for note in report.notes), report.notes
    packets = len(clips.said(source)["others"][0][-1])
    kept = len(clips.said(tmp_path / "out.mkv")["others"][0][-1])
    assert packets - kept > 1
    assert f"{packets - kept} damaged packets of the audio were left out" in report.notes


@pytest.mark.slow
@pytest.mark.parametrize("done", [150, 250])
def test_going_on_where_a_clock_begins_again(restore, tmp_path, done):
    """Stopped before that place, and behind it."""
    once = clips.make(tmp_path / "a.ts", size=(32, 32), frames=160)
    source = tmp_path / "in.ts"
    source.write_bytes(2 * once.read_bytes())
    assert restore(source, "whole.mkv").frames == 320
    seen = []

    def stop(frame, time):
        seen.append(time)
        if len(seen) == done:
            raise UserError("enough")

    with pytest.raises(UserError, match="enough"):
        restore(source, "out.mkv", hook=stop)
    report = restore(source, "out.mkv")
    assert (report.resumed, report.frames) == (done // 120 * 120, 320)
    assert any(note.startswith("its clock begins again: ") for note in report.notes), report.notes
    assert clips.said(tmp_path / "out.mkv") == clips.said(tmp_path / "whole.mkv")


def test_turned_by_an_odd_angle(restore, tmp_path):
    half = round(65536 * 0.5**0.5)
    matrix = (half, half, 0, -half, half, 0, 0, 0, 1 << 30)
    source = clips.make(tmp_path / "in.mp4", frames=3, matrix=matrix)
    assert restore(source, "out.mp4").frames == 3
    assert clips.said(tmp_path / "out.mp4")["matrix"] == clips.said(source)["matrix"] is not None


def test_two_at_once(restore, tmp_path):
    source = clips.make(tmp_path / "in.mp4", frames=4)
    first = Segments.open(tmp_path / "out.mp4", {})
    first.add([], {"frames": 1})
    with pytest.raises(UserError, match=r"out.mp4: another command is writing it$"):
        restore(source, "out.mp4")
    first.close()
    again = Segments.open(tmp_path / "out.mp4", {})
    assert again.states == [{"frames": 1}]
    again.close()
    assert restore(source, "out.mp4").frames == 4
    assert not list(tmp_path.glob(".out.mp4*"))
    # Of a comparison that another command writes no folder stays.
    other = Segments.open(tmp_path / "both" / "new.mp4", {})
    with pytest.raises(UserError, match=r"both/new.mp4: another command is writing it$"):
        restore(source, "new.mp4", compare=tmp_path / "both")
    other.close()
    assert not list(tmp_path.glob("**/.new.mp4*"))


def test_what_cannot_be_written_as_it_was(restore, tmp_path):
    source = clips.make(tmp_path / "in.avi", codec="mpeg1video", frames=6, time_base=Fraction(1, 25))
    report = restore(source, "out.mp4")
    assert clips.said(tmp_path / "out.mp4")["codec"] == "h264"
    assert any("mpeg1video is written as h264" in note for note in report.notes)
