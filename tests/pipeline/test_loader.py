import dataclasses
import itertools

import cv2
import jax
import numpy as np
import pytest

from deblur_jax.errors import UserError
from deblur_jax.pipeline.loader import Loader, LoaderConfig, feed, to_float
from deblur_jax.pipeline.sources import Item

SIDE = 40


class Gradients:
    """Pictures that say where each of their pixels lies; `blur` is `sharp` with another blue."""

    def __init__(self, count, paired=True, frames=1, blur_size=SIDE):
        self.paired, self._count, self._frames, self._blur_size = paired, count, frames, blur_size

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        def picture(blue, side):
            rows, columns = np.mgrid[:side, :side].astype(np.uint8)
            pixels = np.stack([rows, columns, np.full_like(rows, blue % 256)], -1)
            return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()

        sharp = tuple(picture(index + frame, SIDE) for frame in range(self._frames))
        blur = tuple(picture(200 + index + frame, self._blur_size) for frame in range(self._frames))
        return Item(f"item {index}", sharp, blur if self.paired else None)


def batches(sources, count, *, start=0, process=0, processes=1, **config):
    loader = Loader(sources, LoaderConfig(**config), process=process, processes=processes)
    return list(itertools.islice(loader.batches(start), count))


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def joined(shares):
    return {name: np.concatenate([share[name] for share in shares]) for name in shares[0]}


@pytest.mark.parametrize(("processes", "workers"), [(2, 0), (8, 0), (2, 1)])
def test_the_global_batches_do_not_depend_on_the_processes(processes, workers):
    config = {"batch": 8, "crop": ((0, 16), (2, 24)), "seed": 5}
    sources = [Gradients(7), Gradients(5, paired=False)]
    whole = batches(sources, 4, **config)
    shares = [batches(sources, 4, process=p, processes=processes, workers=workers, **config) for p in range(processes)]
    for step in range(4):
        equal(whole[step], joined([share[step] for share in shares]))
    assert [batch["sharp"].shape for batch in whole] == [(8, 16, 16, 3)] * 2 + [(8, 24, 24, 3)] * 2


def test_it_goes_on_where_it_stopped_even_with_other_processes():
    config = {"batch": 4, "crop": 16}
    whole = batches([Gradients(7)], 6, **config)
    for step, batch in enumerate(batches([Gradients(7)], 3, start=3, **config), 3):
        equal(batch, whole[step])
    shares = [batches([Gradients(7)], 3, start=3, process=p, processes=2, **config) for p in range(2)]
    equal(joined([share[0] for share in shares]), whole[3])


def test_an_epoch_has_every_item_once_and_the_next_is_in_another_order():
    epochs = np.concatenate([b["item"] for b in batches([Gradients(12)], 9, batch=4, crop=8)]).reshape(3, 12)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert Loader([Gradients(12)], LoaderConfig(batch=4, crop=8)).steps_per_epoch == 3


def test_another_seed_is_another_order():
    first, second = (batches([Gradients(50)], 2, batch=8, crop=8, seed=seed) for seed in (0, 1))
    assert any((a["item"] != b["item"]).any() for a, b in zip(first, second, strict=True))


def test_crops_are_aligned_and_of_all_eight_directions():
    seen = set()
    for batch in batches([Gradients(20)], 8, batch=20, crop=16):
        np.testing.assert_array_equal(batch["sharp"][..., :2], batch["blur"][..., :2])
        np.testing.assert_array_equal(batch["blur"][..., 2], batch["sharp"][..., 2] + 200)
        np.testing.assert_array_equal(batch["sharp"][:, 0, 0, 2], batch["item"])
        for piece in batch["sharp"].astype(int):
            across, down = piece[0, 1, :2] - piece[0, 0, :2], piece[1, 0, :2] - piece[0, 0, :2]
            seen.add((*across, *down))
    assert len(seen) == 8
    unturned = batches([Gradients(20)], 1, batch=20, crop=16, flip=False)[0]["sharp"].astype(int)
    assert (unturned[:, 1:, :, 0] - unturned[:, :-1, :, 0] == 1).all()


def test_crops_reach_every_corner():
    tops = np.concatenate([b["sharp"][..., 0].min((1, 2)) for b in batches([Gradients(20)], 20, batch=20, crop=36)])
    assert sorted(set(tops.tolist())) == [0, 1, 2, 3, 4]
    counts = np.bincount(tops)
    assert counts.min() > 40  # of 80 expected


def test_sources_mix_by_weight():
    sources = [Gradients(10), Gradients(1000, paired=False)]
    mixed = np.concatenate([b["source"] for b in batches(sources, 10, batch=20, crop=8, weights=(0.75, 0.25))])
    assert mixed.mean() == pytest.approx(0.25, abs=0.02)
    by_size = np.concatenate([b["source"] for b in batches(sources, 10, batch=20, crop=8)])
    assert by_size.mean() == pytest.approx(1000 / 1010, abs=0.02)


def test_sources_with_and_without_a_blurred_partner():
    batch = batches([Gradients(10), Gradients(10, paired=False)], 1, batch=16, crop=8)[0]
    np.testing.assert_array_equal(batch["paired"], batch["source"] == 0)
    alone = batch["source"] == 1
    np.testing.assert_array_equal(batch["blur"][alone], batch["sharp"][alone])
    assert "blur" not in batches([Gradients(10, paired=False)], 1, batch=16, crop=8)[0]


def test_two_copies_of_a_source_do_not_walk_in_step():
    batch = joined(batches([Gradients(20), Gradients(20)], 4, batch=10, crop=8))
    assert (batch["item"][batch["source"] == 0] != batch["item"][batch["source"] == 1]).any()


def test_frames_are_cropped_alike():
    batch = batches([Gradients(5, frames=3)], 1, batch=4, crop=16)[0]
    assert batch["sharp"].shape == batch["blur"].shape == (4, 3, 16, 16, 3)
    np.testing.assert_array_equal(batch["sharp"][:, 0, ..., :2], batch["sharp"][:, 2, ..., :2])
    np.testing.assert_array_equal(batch["sharp"][:, 2, ..., 2], batch["sharp"][:, 0, ..., 2] + 2)


def test_height_and_width_shrink_each_for_itself():
    config = {"batch": 20, "crop": 16, "flip": False, "shrink": 2.0}
    pieces = joined(batches([Gradients(20, paired=False)], 10, **config))["sharp"].astype(float)
    down = (pieces[:, 14, 8, 0] - pieces[:, 1, 8, 0]) / 13  # rows of the picture to a row of the piece
    right = (pieces[:, 8, 14, 1] - pieces[:, 8, 1, 1]) / 13
    for ratios in (down, right):
        assert ratios.min() == pytest.approx(1.0, abs=0.1)
        assert ratios.max() == pytest.approx(2.0, abs=0.1)
        assert 0.2 < (ratios < 2**0.5).mean() < 0.8
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.2
    frames = batches([Gradients(5, paired=False, frames=3)], 1, batch=4, crop=16, shrink=2.0)[0]["sharp"]
    np.testing.assert_array_equal(frames[:, 0, ..., :2], frames[:, 2, ..., :2])


def test_partners_of_different_size_are_named():
    with pytest.raises(UserError, match=r"item \d: .* differ in size: 38x38 and 40x40"):
        batches([Gradients(5, blur_size=38)], 1, batch=4, crop=16)


@pytest.mark.parametrize("pictures_held", [1, 2, 5, 100])
def test_partners_are_compared_as_they_were_before_being_reduced(pictures_held):
    """Whichever of them there was room for."""
    held = {"batch": 4, "crop": 16, "max_side": 20, "keep_gb": pictures_held * 20 * 20 * 3 / 1e9}
    batches([Gradients(5)], 3, **held)
    with pytest.raises(UserError, match=r"item \d: .* differ in size: 38x38 and 40x40"):
        batches([Gradients(5, blur_size=38)], 3, **held)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 9}, "batch of 9 cannot be shared among 2"),
        ({"weights": (1.0,)}, "1 weights for 2 sources"),
        ({"weights": (1.0, 0.0)}, "above 0"),
        ({"crop": ((5, 16),)}, "start at step 0"),
        ({"crop": ()}, "start at step 0"),
        ({"crop": 0}, "crop must be"),
        ({"shrink": 0.5}, "shrink must be at least 1"),
        ({"shrink": 2.0}, "shrink is for sharp pictures"),
    ],
)
def test_what_cannot_be_is_said(change, words):
    config = dataclasses.replace(LoaderConfig(batch=8, crop=16), **change)
    with pytest.raises(UserError, match=words):
        Loader([Gradients(3), Gradients(3)], config, processes=2)


def test_feed_shards_uint8_and_keeps_the_order(monkeypatch):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("data"))
    host = batches([Gradients(20)], 5, batch=16, crop=8)
    taken = []

    def counted():
        for batch in host:
            taken.append(batch)
            yield batch

    fed = feed(counted(), sharding, ahead=2)
    first = next(fed)
    assert len(taken) == 3  # two more are on their way
    assert first["sharp"].dtype == np.uint8
    assert first["sharp"].sharding.is_equivalent_to(sharding, 4)
    assert {shard.data.shape[0] for shard in first["sharp"].addressable_shards} == {2}
    for expected, batch in zip(host, [first, *fed], strict=True):
        equal(expected, {name: np.asarray(value) for name, value in batch.items()})
    floats = jax.jit(to_float)(first["sharp"])
    np.testing.assert_allclose(np.asarray(floats), host[0]["sharp"] / np.float32(255), atol=1e-7)
