"""Clips through a Restorer: what stays, to the tick and to the packet."""

from fractions import Fraction

import clips
import numpy as np
import pytest

from deblur_jax.restore import video
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
