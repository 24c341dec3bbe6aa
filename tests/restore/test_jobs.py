"""Where outputs go, and what becomes of each file."""

import shutil
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import metrics, weights
from deblur_jax.errors import UserError
from deblur_jax.restore import jobs, pictures
from deblur_jax.restore.inputs import collect
from deblur_jax.restore.restorer import Restorer


@pytest.fixture
def folder(tmp_path):
    """Two pictures, one further down, and a text."""
    pixels = (255 * np.random.default_rng(0).random((40, 50, 3))).astype(np.uint8)
    for name in ("a.png", "below/b.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    return tmp_path / "in"


def targets(found, **options):
    return [job.wrong or job.target for job in jobs.plan(found, **options)]


def test_where_outputs_go(folder, tmp_path):
    found, out = collect([folder]), tmp_path / "out"
    assert targets(found, out=None) == [folder / "a-sharp.png", folder / "below/b-sharp.jpg"]
    assert targets(found, out=out) == [out / "a.png", out / "below/b.jpg"]
    assert targets(found, out=out, name="{n}_{stem}", suffix=".tif") == [out / "1_a.tif", out / "below/2_b.tif"]
    one = collect([folder / "a.png"])
    assert targets(one, out=tmp_path / "x.jpg") == [tmp_path / "x.jpg"]
    assert targets(one, out=out) == [out / "a.png"]
    assert targets(one, out=tmp_path / "x.d", into=True) == [tmp_path / "x.d/a.png"]
    assert targets(one, out=tmp_path) == [tmp_path / "a.png"]


def test_outputs_that_cannot_be(folder, tmp_path):
    found = collect([folder])
    assert "is an input" in str(targets(found, out=folder)[0])
    assert targets(found, out=folder, overwrite=True)[0] == folder / "a.png"
    clash = collect([folder / "a.png", folder / "below" / "b.jpg"])
    assert "is that of" in str(targets(clash, out=tmp_path / "out", name="same", suffix=".png")[1])
    (tmp_path / "a.png").write_bytes(b"kept")
    assert "exists already" in str(targets(collect([folder / "a.png"]), out=tmp_path)[0])
    assert jobs.plan(collect([folder / "a.png"]), out=tmp_path, skip_existing=True)[0].exists
    wrong = (
        "{other}",
        "a/{stem}",
        "",
        "{stem",
        "{0}",
        "{stem[a]}",
        "{stem.a}",
        "{stem!r}",
        "{stem:9}",
        "{n:999}",
        "{n:>9}",
    )
    for template in wrong:
        with pytest.raises(UserError, match="--name"):
            jobs.plan(found, out=None, name=template or "{stem:.0}")


def test_no_input_is_taken_for_the_result_of_another_or_replaced_by_it(folder):
    """What is called by numbers, or is written where it stands, is no earlier result."""
    for n in (2, 3, 10):
        shutil.copy(folder / "a.png", folder / f"below/{n}.png")
    found = collect([folder / "below"])
    assert [one.path.name for one in found] == ["2.png", "3.png", "10.png", "b.jpg"]
    for overwrite in (False, True):
        first, *others = targets(found, out=None, name="{n:d}", overwrite=overwrite)
        assert first == folder / "below/1.png"
        assert [str(one).partition("its ")[2] for one in others[:1]] == [
            f"output {folder / 'below/2.png'} is another input; see --name"
        ]
    shutil.copy(folder / "a.png", folder / "a.jpg")
    own, other = targets(collect([folder / "a.jpg", folder / "a.png"]), out=folder, suffix=".jpg", overwrite=True)
    assert own == folder / "a.jpg"
    assert other.endswith("a.jpg already; see --name")


def test_a_folder_with_results_in_it_can_be_done_again(folder):
    """What an earlier run made, beside the pictures or in a folder below them, is no input."""
    for out in (None, folder / "sharp"):
        before = jobs.plan(collect([folder]), out=out, into=True)
        for job in before:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            job.target.touch()
        cv2.imwrite(str(folder / "new.png"), np.zeros((9, 9, 3), np.uint8))
        again = jobs.plan(collect([folder]), out=out, into=True, skip_existing=True)
        names = [Path(job.name).name for job in again]
        assert names == ["a.png", "b.jpg", "new.png"]
        assert [(job.exists, job.wrong) for job in again] == [(True, ""), (True, ""), (False, "")]
        assert [job.target for job in jobs.plan(collect([folder]), out=out, into=True, overwrite=True)] == [
            job.target for job in again
        ]
        for path in [folder / "new.png", *(job.target for job in before)]:
            path.unlink()


def test_names_at_the_limit(folder, tmp_path, run):
    """250 bytes are a name, and more are one failure among the others."""
    name = "\u5199" * 82 + ".png"
    (folder / "a.png").rename(folder / name)
    assert [o.status for o in run(jobs.plan(collect([folder]), out=tmp_path / "out"))] == ["restored", "restored"]
    outcomes = run(jobs.plan(collect([folder]), out=None))
    assert sorted(o.status for o in outcomes) == ["failed", "restored"]
    (failed,) = (o for o in outcomes if o.status == "failed")
    assert failed.message.endswith("-sharp.png: cannot be written: File name too long")


def test_what_is_replaced_keeps_its_mode_and_a_link_its_place(folder, tmp_path, run):
    private, link = tmp_path / "private.png", tmp_path / "link.png"
    private.write_bytes(b"old")
    private.chmod(0o600)
    link.symlink_to(private)
    (outcome,) = run(jobs.plan(collect([folder / "a.png"]), out=link, overwrite=True))
    assert outcome.status == "restored"
    assert link.is_symlink()
    assert private.stat().st_mode & 0o777 == 0o600
    assert cv2.imread(str(private)).shape == (40, 50, 3)


@pytest.fixture
def run(nano):
    restorer = Restorer(weights.load(nano(scale=0.3)), devices=jax.devices()[:1])

    def run(planned, **options):
        return list(jobs.run(planned, lambda: restorer, jobs.Options(**options)))

    return run


@pytest.mark.parametrize("overlap", [True, False])
def test_files_come_out_restored_and_bad_ones_are_named(folder, tmp_path, run, overlap):
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    planned = jobs.plan(collect([folder]), out=tmp_path / "out")
    outcomes = {Path(o.job.name).name: o for o in run(planned, overlap=overlap)}
    assert list(outcomes) == ["a.png", "b.jpg", "broken.png", "empty.png"]
    assert [o.status for o in outcomes.values()] == ["restored", "restored", "failed", "failed"]
    assert "damaged" in outcomes["broken.png"].message
    assert "empty" in outcomes["empty.png"].message
    good = outcomes["a.png"]
    before, after = (pictures.read(p.read_bytes(), p).pixels for p in (folder / "a.png", tmp_path / "out" / "a.png"))
    assert (before != after).any()
    for pixels, said in ((before, good.before), (after, good.after)):
        expected = float(metrics.laplacian_score(jnp.asarray(pixels[None] / 255, jnp.float32))[0])
        assert said == pytest.approx(expected, rel=1e-4)
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["a.png", "b.jpg"]


def test_sharp_pictures_are_copied_byte_for_byte(folder, tmp_path, run):
    planned = jobs.plan(collect([folder]), out=tmp_path / "out")
    scores = iter([0.9, 0.1])
    copied, restored = run(
        planned, overlap=False, sharpness=lambda *_, linear: next(scores), threshold=0.5, too_blurred=0.2
    )
    assert (copied.status, restored.status) == ("copied", "restored")
    assert (tmp_path / "out/a.png").read_bytes() == (folder / "a.png").read_bytes()
    assert "so blurred" in restored.notes[0]
    assert not copied.notes


def test_a_region_is_restored_alone(folder, tmp_path, run):
    large = (255 * np.random.default_rng(1).random((120, 300, 3))).astype(np.uint8)
    cv2.imwrite(str(folder / "a.png"), large)
    one = collect([folder / "a.png"])
    assert run(jobs.plan(one, out=tmp_path / "r.png"), region=(200, 20, 50, 60))[0].status == "restored"
    changed = np.argwhere((cv2.imread(str(tmp_path / "r.png")) != large).any(-1))
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    assert 0 <= top <= 20 <= 79 <= bottom <= 103
    assert 176 <= left <= 200 <= 249 <= right <= 273
    outside = run(jobs.plan(one, out=tmp_path / "s.png"), region=(300, 0, 5, 5))[0]
    assert "outside the picture of 300x120" in outside.message
    mask = run(jobs.plan(one, out=tmp_path / "m.png"), mask=np.ones((3, 4), np.float32))[0]
    assert "the mask is 4x3, the picture 300x120" in mask.message


def test_a_folder_that_cannot_be_written(folder, tmp_path, run):
    (tmp_path / "file").write_text("in the way")
    outcomes = run(jobs.plan(collect([folder]), out=tmp_path / "file" / "deeper"))
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert "cannot be made" in outcomes[0].message


def test_laplacian_in_strips():
    for shape in ((1400, 33, 3), (1, 1, 3), (513, 7, 1)):
        pixels = (65535 * np.random.default_rng(0).random(shape)).astype(np.uint16)
        eight = pictures.to_8bit(pixels)
        grey = cv2.cvtColor(eight, cv2.COLOR_RGB2GRAY) if shape[2] == 3 else eight[..., 0]
        assert jobs.laplacian_score(pixels) == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), rel=1e-9)
