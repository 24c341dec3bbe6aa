"""Which frames pass by the network, and how its change comes and goes."""

import itertools

import clips
import cv2
import jax
import numpy as np

from deblur_jax.restore import sharpness, video
from deblur_jax.restore.options import ClipOptions, Options
from deblur_jax.restore.restorer import Restorer
from deblur_jax.restore.selective import FADE, Judge, weighed


def weights_of(scores, threshold=0.5):
    return [said.weight for said in weighed(((n, score) for n, score in enumerate(scores)), Judge(threshold))]


def test_blurred_frames_get_all_of_it_and_borders_fade():
    found = weights_of([0.9] * 10 + [0.1] * 2 + [0.9] * 10)
    assert found[10:12] == [1.0, 1.0]
    assert found[:4] == found[-4:] == [0.0] * 4
    assert max(abs(a - b) for a, b in itertools.pairwise(found)) <= 1 / FADE + 1e-9
    assert found == found[::-1]


def test_scores_near_the_threshold_do_not_flicker():
    wobbling = [0.9, *([0.49, 0.51] * 20)]
    assert weights_of(wobbling) == [0.0] * 41
    assert weights_of([0.1, *([0.49, 0.51] * 20)]) == [1.0] * 41
    assert weights_of([0.1, *([0.0] * 5)]) == [1.0] * 6  # nothing to be seen is no news
    assert weights_of([]) == []


def test_a_clip_of_sharp_and_blurred_frames(nano, tmp_path):
    """By the real measure; skipped frames come out as they were, sample for sample."""

    def picture(width, height, n):
        whole = clips.photograph(width, height, n % 3)
        return cv2.GaussianBlur(whole, (0, 0), 2.5) if 12 <= n < 16 else whole

    source = clips.make(tmp_path / "in.mkv", codec="ffv1", size=(192, 128), frames=28, picture=picture)
    restorer = Restorer(nano(scale=0.05), devices=jax.devices()[:1])
    options = Options(
        sharpness=lambda pixels, **how: sharpness.sharpness(pixels, **how).score,
        threshold=0.6,
        clip=ClipOptions(codec="ffv1"),
    )
    report = video.restore(source, tmp_path / "out.mkv", lambda: restorer, options)
    same = (clips.planes(source) == clips.planes(tmp_path / "out.mkv")).all((1, 2))
    assert report.skipped == same.sum() == 28 - 4 - 2 * (FADE - 1)
    assert same[:7].all()
    assert same[-7:].all()
    change = np.abs(clips.planes(source).astype(int) - clips.planes(tmp_path / "out.mkv")).mean((1, 2))
    assert change[7] < change[10] < change[12]
