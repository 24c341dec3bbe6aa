"""Means, intervals, sequences and thirds, against what can be worked out by hand."""

import numpy as np
import pytest

from deblur_jax import metrics
from deblur_jax.errors import UserError
from deblur_jax.evaluate import scores


def test_two_sequences_have_three_outcomes():
    """Drawing two of two: both the first (1/4), one of each (1/2), both the second (1/4)."""
    average, interval = scores.mean_and_interval([1.0, 3.0, 5.0, 7.0], ["a", "a", "a", "b"])
    assert average == 4.0
    assert interval == (3.0, 7.0)  # the means of a and of b alone


def test_frames_of_one_video_are_not_independent():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.normal(size=20), 50)  # every video repeats itself
    sequences = [str(i // 50) for i in range(1000)]
    _, (low, high) = scores.mean_and_interval(values, sequences)
    _, (low_frames, high_frames) = scores.mean_and_interval(values, [str(i) for i in range(1000)])
    assert high - low > 5 * (high_frames - low_frames)
    deviation = values[::50].std() / np.sqrt(20)  # what theory says of twenty values
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)
    assert scores.mean_and_interval(values, sequences)[1] == (low, high)  # the seed is fixed


def test_infinite_values_and_single_sequences():
    assert scores.mean_and_interval([np.inf, 1.0, 2.0], ["a", "b", "b"]) == (1.5, None)
    assert scores.mean_and_interval([np.inf], ["a"]) == (None, None)
    assert scores.per_sequence([1.0, 2.0, np.inf, 5.0], ["b", "b", "a", "c"]) == {"b": 1.5, "a": None, "c": 5.0}


def test_thirds_are_by_rank_and_the_lightest_blur_comes_first():
    parts = scores.thirds([20.0, 40.0, 30.0, np.inf, 25.0, 28.0, 22.0])
    assert [part.tolist() for part in parts] == [[1, 2, 3], [4, 5], [0, 6]]
    assert [part.tolist() for part in scores.thirds([2.0, 1.0])] == [[0, 1]]


def test_scores_are_the_metrics(photo):
    sharp = np.asarray(photo * 255, np.uint8)
    blurry = np.roll(sharp, 1, axis=1)
    (values,) = scores.score(blurry, sharp)
    assert tuple(values) == scores.SCORES == tuple(scores.PROTOCOLS)
    a, b = (x.astype(np.float32) / 255 for x in (blurry, sharp))
    assert values["ssim"] == pytest.approx(float(metrics.ssim(a, b)[0]), abs=1e-6)
    assert values["ssim_gopro_matlab"] == pytest.approx(float(metrics.ssim_gopro_matlab(a, b)[0]), abs=1e-6)
    assert values["psnr"] == pytest.approx(float(metrics.psnr(a, b)[0]), abs=1e-4)
    assert values["laplacian"] == pytest.approx(scores.laplacian_of(blurry)[0])
    with pytest.raises(UserError, match="pictures of 131x10 pixels; SSIM needs 11x11"):
        scores.score(blurry[:, :10], sharp[:, :10])
