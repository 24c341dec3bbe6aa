"""Clips through a Restorer: what stays, to the tick and to the packet."""

from fractions import Fraction

import av
import clips
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from deblur_jax.errors import UserError
from deblur_jax.restore import read_image, sinks, video, video_io
from deblur_jax.restore.options import ClipOptions, Options
from deblur_jax.restore.restorer import Restorer

KINDS = {
    "h264-aac.mp4": {"sound": "aac", "subtitles": "mov_text", "chapters": True},
    "h264-vfr.mp4": {"times": [0, 512, 600, 2560, 2561, 3584, 9000, 9001, 12000, 12800, 14000, 20000], "sound": "aac"},
    "h264-late.mp4": {"times": [1000 + 512 * n for n in range(12)], "sound": "aac"},
    "h264-ntsc.mov": {"times": [1001 * n for n in range(12)], "time_base": Fraction(1, 30000)},
    "hevc-10.mp4": {"codec": "libx265", "pixel_format": "yuv420p10le", "colours": (1, 9, 16, 9), "sound": "aac"},
    "hevc-opus.mkv": {"codec": "libx265", "sound": "libopus", "subtitles": "subrip", "chapters": True},
    "vp9-odd.webm": {"codec": "libvpx-vp9", "size": (63, 47), "sound": "libopus", "time_base": Fraction(1, 1000)},
    "av1-10.mkv": {"codec": "libsvtav1", "pixel_format": "yuv420p10le", "sound": "libopus"},
    "ffv1-rgb.mkv": {"codec": "ffv1", "pixel_format": "bgr0", "colours": (2, 1, 13, 0)},
    "mpeg4.mp4": {"codec": "mpeg4", "time_base": Fraction(1, 25)},
    "full-601.mp4": {"colours": (2, 6, 6, 6)},
    "h264.ts": {"sound": "aac", "time_base": Fraction(1, 90000)},
}


@pytest.fixture
def restorer(nano):
    import jax

    return Restorer(nano(scale=0.05), devices=jax.devices()[:1])


@pytest.mark.parametrize("name", KINDS)
def test_all_else_stays(restorer, tmp_path, name):
    source = clips.make(tmp_path / name, **KINDS[name])
    target = tmp_path / f"out-{name}"
    report = video.restore(source, target, lambda: restorer, Options())
    before, after = clips.said(source), clips.said(target)
    assert after == before
    assert report.notes == []
    assert report.frames == len(before["times"]) == 12
    given, restored = (clips.pixels(path).astype(int) for path in (source, target))
    assert 1 < np.abs(given - restored).mean() < 30  # the network has done something
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p"])
@pytest.mark.parametrize(
    "colours", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 6, 6, 6), (2, 6, 6, 5), (1, 9, 16, 9), (0, 2, 2, 2)]
)
def test_colours_do_not_shift(restorer, tmp_path, pixel_format, colours):
    """Without any change what comes out is what went in, sample for sample; and the network sees the true colours."""
    source = clips.make(tmp_path / "in.mkv", codec="ffv1", pixel_format=pixel_format, colours=colours, frames=3)
    target = tmp_path / "out.mkv"
    seen = []
    options = Options(strength=0.0, clip=ClipOptions(codec="ffv1", hook=lambda frame, time: seen.append(frame)))
    video.restore(source, target, lambda: restorer, options)
    assert clips.said(target) == clips.said(source)
    np.testing.assert_array_equal(clips.planes(target), clips.planes(source))
    deep = "10" in pixel_format
    assert {frame.dtype for frame in seen} == {np.dtype(np.uint16 if deep else np.uint8)}
    given = np.stack([clips.photograph(shift=n) for n in range(3)]).astype(float)
    shown = np.stack(seen) / (257.0 if deep else 1.0)
    assert np.abs((shown - given).mean((0, 1, 2))).max() < 1.1
    assert np.abs(shown - given).mean() < (1.5 if "444" in pixel_format else 6)


def test_a_change_is_made_in_the_right_place(restorer, tmp_path):
    """What the encoder gets is the restored picture: compared with a lossless codec in RGB."""
    source = clips.make(tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", colours=(2, 1, 13, 0), frames=2)
    video.restore(source, tmp_path / "out.mkv", lambda: restorer, Options())
    expected = [restorer.restore(frame) for frame in clips.pixels(source)]
    np.testing.assert_array_equal(clips.pixels(tmp_path / "out.mkv"), expected)
    # In 4:2:0 colours are coarser, light is not.
    source = clips.make(tmp_path / "yuv.mkv", codec="ffv1", frames=2)
    video.restore(source, tmp_path / "out-yuv.mkv", lambda: restorer, Options())
    expected = np.stack([restorer.restore(frame) for frame in clips.pixels(source)]).astype(float)
    luma = np.array([0.2126, 0.7152, 0.0722])
    assert np.abs((clips.pixels(tmp_path / "out-yuv.mkv") - expected) @ luma).mean() < 2


def test_neighbouring_frames_on_several_devices(restorer, nano, tmp_path):
    import jax

    source = clips.make(tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", colours=(2, 1, 13, 0), frames=5)
    several = Restorer(nano(scale=0.05), devices=jax.devices()[:2])
    assert several.engine.batch == 2
    picked = {"sharpness": lambda pixels, linear: next(verdicts), "threshold": 0.5}
    for name, options in (("all.mkv", [Options(), Options()]), ("some.mkv", [Options(**picked)] * 2)):
        results = []
        for one, chosen in zip((restorer, several), options, strict=True):
            verdicts = iter([0.0, 0.0, 0.0, 1.0, 1.0])
            video.restore(source, tmp_path / name, lambda one=one: one, chosen)
            results.append(clips.pixels(tmp_path / name).astype(int))
        assert np.abs(results[0] - results[1]).max() <= 1  # rounding


def test_sixteen_bits_reach_the_network(restorer, tmp_path):
    """The two lowest of ten bits come out in use."""
    source = clips.make(tmp_path / "in.mkv", codec="ffv1", pixel_format="yuv420p10le", frames=1)
    video.restore(source, tmp_path / "out.mkv", lambda: restorer, Options())
    assert len(np.unique(clips.planes(tmp_path / "out.mkv") % 4)) == 4


_QUARTER = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # clockwise, as phones held upright write it
_MIRRORED = (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("matrix", [_QUARTER, _MIRRORED])
def test_a_turned_clip(restorer, tmp_path, matrix):
    """The tag stays; a region is where the viewer sees it."""
    source = clips.make(tmp_path / "in.mp4", matrix=matrix, frames=2)
    seen = []
    settings = ClipOptions(codec="ffv1", hook=lambda frame, time: seen.append((frame.shape, time)))
    target = tmp_path / "out.mkv"
    report = video.restore(source, target, lambda: restorer, Options(region=(0, 0, 4, 4), clip=settings))
    assert clips.said(target)["matrix"] == clips.said(source)["matrix"] != None  # noqa: E711
    upright = matrix == _QUARTER
    assert (report.width, report.height) == ((48, 64) if upright else (64, 48))
    assert seen == [((64, 48, 3) if upright else (48, 64, 3), pytest.approx(n / 25)) for n in range(2)]
    changed = (clips.planes(source).astype(int) != clips.planes(target)).any(0)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    # Turned clockwise, what is seen at the top left is stored at the bottom left; mirrored, at the top right.
    assert (rows.max() == 47 and rows.min() > 15) if upright else (rows.min() == 0 and rows.max() < 32)
    assert (columns.min() == 0 and columns.max() < 32) if upright else (columns.max() == 63 and columns.min() > 31)


_HDR10 = {
    "libx265": {
        # Of two frames with B-frames x265 now and then gives times that cannot be written.
        "x265-params": "log-level=none:bframes=0:max-cll=1000,400:"
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    },
    "libsvtav1": {
        "svtav1-params": "content-light=1000,400:"
        "mastering-display=G(0.265,0.690)B(0.150,0.060)R(0.680,0.320)WP(0.3127,0.3290)L(1000.0,0.005)"
    },
}


@pytest.mark.parametrize(("codec", "other"), [("libx265", "libsvtav1"), ("libsvtav1", "libx265")])
def test_what_an_hdr_clip_says_of_its_display_stays(restorer, tmp_path, codec, other):
    hdr = {"pixel_format": "yuv420p10le", "colours": (1, 9, 16, 9), "frames": 2}
    source = clips.make(tmp_path / "in.mkv", codec=codec, options=_HDR10[codec], **hdr)
    described = video_io.probe(source).hdr
    assert described.light == (1000, 400)
    assert [float(n) for n in described.luminance] == pytest.approx([0.005, 1000], rel=2e-3)
    red, green, blue, white = np.array(described.points, float)
    np.testing.assert_allclose([red, green, blue, white], [[0.68, 0.32], [0.265, 0.69], [0.15, 0.06], [0.3127, 0.329]],
                               atol=1e-4)  # fmt: skip
    report = video.restore(source, tmp_path / "out.mkv", lambda: restorer, Options())
    assert report.notes == []
    assert video_io.probe(tmp_path / "out.mkv").hdr == described
    name = "hevc" if other == "libx265" else "av1"
    video.restore(source, tmp_path / "other.mkv", lambda: restorer, Options(clip=ClipOptions(codec=name)))
    again = video_io.probe(tmp_path / "other.mkv").hdr
    np.testing.assert_allclose(np.array(again.points, float), np.array(described.points, float), atol=1e-4)
    assert again.light == (1000, 400)
    report = video.restore(source, tmp_path / "h264.mkv", lambda: restorer, Options(clip=ClipOptions(codec="h264")))
    assert any("HDR mastering display is not copied" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("in.mp4", "libx264", {"x264-params": "tff=1"}),
        ("in.mkv", "libx264", {"x264-params": "bff=1"}),
        ("in.ts", "mpeg2video", {}),
    ],
)
def test_an_interlaced_clip(restorer, tmp_path, name, codec, options):
    """Its fields are pictures of their own, and it stays interlaced with the same field first."""

    def woven(width, height, n):
        frame = clips.photograph(width, height, 2 * n)
        frame[1::2] = 255 - clips.photograph(width, height, 2 * n + 1)[1::2]
        return frame

    source = clips.make(
        tmp_path / name,
        codec=codec,
        options=options,
        interlaced=True,
        frames=3,
        picture=woven,
        time_base=Fraction(1, 25 if name == "in.ts" else 12800),
    )
    target = tmp_path / f"out-{name}"
    report = video.restore(source, target, lambda: restorer, Options())
    assert report.notes == ["it is interlaced: the two fields of a frame were restored each by itself"]
    assert clips.fields(target) == clips.fields(source) == ("bff" if "tff=1" not in options.values() else "tff")
    if "tff=1" in options.values():
        old = Options(clip=ClipOptions(codec="mpeg2video"))
        report = video.restore(source, tmp_path / "old.mkv", lambda: restorer, old)
        assert any("written as progressive" in note for note in report.notes)
    lossless = tmp_path / "out.mkv"
    report = video.restore(source, lossless, lambda: restorer, Options(clip=ClipOptions(codec="ffv1")))
    assert any("written as progressive" in note for note in report.notes)
    light = np.array([0.299, 0.587, 0.114])
    for after, before in zip(clips.pixels(lossless), clips.pixels(source), strict=True):
        for field in (slice(0, None, 2), slice(1, None, 2)):
            expected = restorer.restore(np.ascontiguousarray(before[field])).astype(float)
            # Colours are shared by neighbouring lines, light is not.
            assert np.abs((after[field] - expected) @ light).mean() < 4


def test_attached_files_and_covers(restorer, tmp_path):
    font = bytes(range(256)) * 4
    cover = cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    source = clips.make(tmp_path / "in.mkv", frames=2, attached=[("a font.ttf", "font/ttf", font)])
    video.restore(source, tmp_path / "out.mkv", lambda: restorer, Options())
    with av.open(str(tmp_path / "out.mkv")) as clip:
        (attached,) = clip.streams.attachments
        said = attached.metadata["filename"], attached.mimetype, bytes(attached.data)
    assert said == ("a font.ttf", "font/ttf", font)
    source = clips.make(tmp_path / "in.mp4", frames=2, cover=cover)
    report = video.restore(source, tmp_path / "out.mp4", lambda: restorer, Options())
    assert report.notes == []
    with av.open(str(tmp_path / "out.mp4")) as clip:
        beside = [s for s in clip.streams.video if s.disposition & Disposition.attached_pic]
        assert [bytes(p) for p in clip.demux(beside) if p.size] == [cover]
    assert clips.said(tmp_path / "out.mp4")["times"] == clips.said(source)["times"]


def test_what_is_chosen(restorer, tmp_path):
    source = clips.make(tmp_path / "in.mp4", sound="aac", subtitles="mov_text")
    report = video.restore(
        source,
        tmp_path / "out.webm",
        lambda: restorer,
        Options(clip=ClipOptions(codec="vp9", crf=40, pixel_format="yuv444p")),
    )
    after = clips.said(tmp_path / "out.webm")
    assert (after["codec"], after["format"], after["others"]) == ("vp9", "yuv444p", [])
    assert [note.split(" is left out")[0] for note in report.notes] == ["the audio (aac)", "the subtitle (mov_text)"]
    report = video.restore(source, tmp_path / "other.webm", lambda: restorer, Options())
    assert clips.said(tmp_path / "other.webm")["codec"] == "vp9"
    assert "h264 is written as vp9" in report.notes[0]
    for wrong, message in [
        (ClipOptions(codec="theora"), "no codec is called"),
        (ClipOptions(codec="h264", crf=60), "from 0 to 51"),
        (ClipOptions(codec="ffv1", crf=3), "has none"),
        (ClipOptions(pixel_format="pal8"), "cannot be written as 'pal8'"),
        (ClipOptions(codec="vp8"), "cannot hold vp8"),
    ]:
        with pytest.raises(UserError, match=message):
            video.restore(source, tmp_path / "wrong.mp4", lambda: restorer, Options(clip=wrong))
    assert sorted(p.name for p in tmp_path.glob("*wrong*")) == []


def test_a_part_of_it(restorer, tmp_path):
    source = clips.make(tmp_path / "in.mp4", frames=20, sound="aac", chapters=True, time_base=Fraction(1, 12800))
    options = Options(clip=ClipOptions(start=0.2, end=0.6, every=2))
    report = video.restore(source, tmp_path / "out.mp4", lambda: restorer, options)
    before, after = clips.said(source), clips.said(tmp_path / "out.mp4")
    assert report.frames == 5
    assert after["times"] == [Fraction(2 * n, 25) for n in range(5)]
    shifted = [(time - Fraction(1, 5), data) for time, data in before["others"][0][4] if 0.2 <= time < 0.6]
    assert after["others"][0][4] == shifted
    assert after["chapters"] == [(0, Fraction(1, 5), {"title": "second"})]
    with pytest.raises(UserError, match="no frame in it from 9 s on"):
        video.restore(source, tmp_path / "late.mp4", lambda: restorer, Options(clip=ClipOptions(start=9.0)))


class Stop(Exception):
    pass


@pytest.mark.parametrize("selective", [False, True])
def test_an_interrupted_job_goes_on(restorer, tmp_path, monkeypatch, selective):
    """Wherever it was stopped, the result is that of an uninterrupted one, sample for sample.

    With FFV1: given the same frames on a busy machine, x264 now and then encodes them to other bytes.
    """
    monkeypatch.setattr(sinks, "LENGTH", 5)
    source = clips.make(tmp_path / "in.mkv", frames=23, sound="aac", options={"g": "4"})
    verdicts = [0.0 if n < 3 or n == 18 else 1.0 for n in range(30)]

    def options(skip=0):
        order = iter(verdicts[skip:])
        chosen = {"sharpness": lambda pixels, linear: next(order), "threshold": 0.5} if selective else {}
        return Options(**chosen, clip=ClipOptions(codec="ffv1"))

    whole = tmp_path / "whole.mkv"
    video.restore(source, whole, lambda: restorer, options())
    target = tmp_path / "out.mkv"
    done = 0
    for stop in (8, 4, 30):
        ticks = iter(range(1000))

        def tick(part, ticks=ticks, stop=stop):
            if next(ticks) == stop:
                raise Stop

        try:
            report = video.restore(source, target, lambda: restorer, options(done), tick=tick)
        except Stop:
            assert not target.exists()
            kept = sorted(p.name for p in (tmp_path / ".out.mkv.deblur").glob("*.segment"))
            assert kept[:1] == ["000000.segment"]
            done = 5 * len(kept)
    assert report.resumed == done > 0
    assert report.frames == 23
    assert clips.said(target) == clips.said(whole)
    for one, other in zip(clips.planes(target), clips.planes(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / ".out.mkv.deblur").exists()


def test_another_job_starts_anew(restorer, tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "LENGTH", 5)
    source = clips.make(tmp_path / "in.mp4", frames=12)
    target = tmp_path / "out.mp4"

    def stopped(**options):
        def tick(part):
            if part > 0.7:
                raise Stop

        with pytest.raises(Stop):
            video.restore(source, target, lambda: restorer, Options(**options), tick=tick)

    stopped()
    assert video.restore(source, target, lambda: restorer, Options(strength=0.5)).resumed == 0
    stopped()
    clips.make(source, frames=13)
    assert video.restore(source, target, lambda: restorer, Options()).resumed == 0
    stopped()
    assert video.restore(source, target, lambda: restorer, Options()).resumed in (5, 10)


def test_deep_and_clear_pictures(restorer, tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (10, 12, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "1.png"), deep)
    options = Options(strength=0.0, clip=ClipOptions(fps=1.0))
    video.restore(tmp_path / "%d.png", tmp_path / "deep-%d.png", lambda: restorer, options)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "deep-1.png"), cv2.IMREAD_UNCHANGED), deep)
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((10, 12, 4), np.uint8))
    said = video.restore(tmp_path / "%d.png", tmp_path / "clear-%d.png", lambda: restorer, options)
    assert said.notes == ["transparency is left out"]


def test_a_timecode_stays(restorer, tmp_path):
    """A track that the .mov is given beside the picture's own word for it."""
    source = clips.make(tmp_path / "in.mov", timecode="01:00:00:00")
    for name in ("out.mov", "out.mp4", "out.mkv"):
        assert video.restore(source, tmp_path / name, lambda: restorer, Options()).notes == []
        with av.open(str(tmp_path / name)) as clip:
            said = clip.metadata | clip.streams.video[0].metadata
            assert {k.lower(): v for k, v in said.items()}["timecode"] == "01:00:00:00"


def test_a_palette_keeps_its_colours(restorer, tmp_path):
    with av.open(str(tmp_path / "in.avi"), "w") as out:
        stream = out.add_stream("zmbv", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        frame = av.VideoFrame(64, 48, "pal8")
        rows = np.zeros((48, frame.planes[0].line_size), np.uint8)
        rows[:, 32:64] = 1
        frame.planes[0].update(rows.tobytes())
        palette = np.zeros((256, 4), np.uint8)
        palette[:2] = (0, 0, 255, 255), (0, 255, 0, 255)  # blue, green, red, alpha
        frame.planes[1].update(palette.tobytes())
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    video.restore(tmp_path / "in.avi", tmp_path / "out.mkv", lambda: restorer, Options(strength=0.0))
    found = clips.pixels(tmp_path / "out.mkv")[0].astype(int)
    np.testing.assert_allclose(found[24, [8, 56]], [(255, 0, 0), (0, 255, 0)], atol=6)


def test_numbered_pictures(restorer, tmp_path):
    """Out of a clip and into one again."""
    source = clips.make(tmp_path / "in.mp4", frames=4, matrix=_QUARTER)
    pattern = tmp_path / "out/%03d.png"
    video.restore(source, pattern, lambda: restorer, Options(strength=0.0))
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["001.png", "002.png", "003.png", "004.png"]
    first = read_image(tmp_path / "out/001.png")
    assert first.shape == (64, 48, 3)  # upright
    assert np.abs(255 * first - np.rot90(clips.pixels(source)[0], -1)).mean() < 2
    with pytest.raises(UserError, match="exists already"):
        video.restore(source, pattern, lambda: restorer, Options())
    (tmp_path / "out/003.png").unlink()
    old = (tmp_path / "out/002.png").stat().st_mtime_ns
    video.restore(source, pattern, lambda: restorer, Options(strength=0.0, clip=ClipOptions(skip_existing=True)))
    assert (tmp_path / "out/003.png").exists()
    assert (tmp_path / "out/002.png").stat().st_mtime_ns == old
    back = tmp_path / "back.mp4"
    video.restore(pattern, back, lambda: restorer, Options(strength=0.0, clip=ClipOptions(fps=12.5, crf=5)))
    after = clips.said(back)
    assert (after["codec"], after["format"], after["size"]) == ("h264", "yuv420p", (48, 64))
    assert after["times"] == [Fraction(2 * n, 25) for n in range(4)]
    assert np.abs(clips.pixels(back)[0] - 255 * first).mean() < 5
    untouched = tmp_path / "again/%03d.png"
    said = video.restore(pattern, untouched, lambda: restorer, Options(strength=0.0, clip=ClipOptions(fps=12.5)))
    assert said.notes == []
    assert np.array_equal(read_image(tmp_path / "again/001.png"), first)  # no colour at half size in between
    (tmp_path / "out/002.png").unlink()
    for fps, message in ((None, "--fps says"), (25.0, "1 numbers are missing")):
        with pytest.raises(UserError, match=message):
            video.restore(pattern, back, lambda: restorer, Options(clip=ClipOptions(fps=fps)))
