"""What is missing, damaged or odd is named; what is measured agrees with the metrics."""

import json
import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import metrics
from deblur_jax.errors import UserError
from deblur_jax.pipeline import checks, trees
from deblur_jax.restore import read_image


def data(*arguments, **options):
    command = [sys.executable, "-m", "deblur_jax", "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def folder(tmp_path, write):
    """Eight good pairs."""
    for i in range(8):
        for kind in ("blur", "sharp"):
            write(f"{kind}/{i}.png", 3 * i)
    return tmp_path


def surveyed(folder, **options):
    return checks.survey(trees.pairs(folder), folder, **options)


def test_good_pairs_pass(folder):
    found = surveyed(folder, size=(64, 48), counts={"train": 8})
    found.demand(folder)
    assert len(found.headers) == 16


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0, 0.5, 0.98])
def test_truncated_pictures_are_named(folder, write, suffix, share):
    path = write(f"sharp/cut{suffix}", 3)
    write(f"blur/cut{suffix}", 3)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    found = surveyed(folder)
    assert len(found.damaged) == 1
    assert found.damaged[0].startswith(f"sharp/cut{suffix}: ")
    with pytest.raises(UserError, match="1 problem; nothing was written"):
        found.demand(folder, allow_missing=True)


def test_everything_else_that_is_wrong_is_named(folder, write):
    write("sharp/1.png", 3, size=(48, 66))
    (folder / "sharp/2.png").unlink()
    (folder / "sharp/3.png").write_text("no picture")
    (folder / "sharp/4.tif").write_bytes((folder / "sharp/4.png").read_bytes()[:0] + b"II*\0")
    (folder / "sharp/4.png").unlink()
    found = surveyed(folder, size=(64, 48), counts={"train": 9})
    assert sorted(found.damaged) == [
        "blur/1.png: 64x48 pixels, and sharp/1.png has 66x48",
        "sharp/1.png: 66x48 pixels, published are 64x48",
        "sharp/3.png: not a PNG, JPEG, WebP or BMP picture",
        "sharp/4.tif: not a PNG, JPEG, WebP or BMP picture",
    ]
    assert found.missing == ["train: 8 examples of the 9 that were published", "sharp/2.png: missing"]


def test_sixteen_bits_grey_and_alpha_are_noted(folder):
    pixels = cv2.imread(str(folder / "sharp/0.png"))
    cv2.imwrite(str(folder / "sharp/0.png"), pixels.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "sharp/1.png"), cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))
    cv2.imwrite(str(folder / "sharp/2.png"), cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA))
    found = surveyed(folder)
    found.demand(folder)
    assert [note.split(",")[0] for note in found.notes] == [
        "1 picture of 16 bits a channel (kept as they are)",
        "1 picture in grey (read as RGB)",
        "1 picture with an alpha channel (kept in the file",
    ]


def test_a_picture_that_its_exif_turns_has_the_size_it_is_read_with(folder, write):
    path, plain = write("sharp/turned.jpg", 1), write("blur/turned.jpg", 1, size=(64, 48))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    path.write_bytes(b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + path.read_bytes()[2:])
    assert read_image(path).shape == read_image(plain).shape == (64, 48, 3)
    surveyed(folder).demand(folder)


def test_missing_folders_are_one_line_and_ten_lines_are_shown(folder):
    examples = [trees.Example("s", i, folder / f"no/{i}.png", folder / f"blur{i}/0.png") for i in range(20)]
    found = checks.survey({"train": examples}, folder)
    assert "no: missing, with the 20 pictures in it" in found.missing
    with pytest.raises(UserError, match="21 problems") as raised:
        found.demand(folder)
    assert len(str(raised.value).splitlines()) == 12
    assert str(raised.value).endswith("... and 11 more")


def test_measures_are_the_metrics(folder):
    report = checks.examine(folder)
    assert not report.problems
    pictures = {k: jnp.stack([read_image(folder / k / f"{i}.png") for i in range(8)]) for k in ("blur", "sharp")}
    figures = report.splits["train"]
    np.testing.assert_allclose(figures["psnr"], metrics.psnr(pictures["blur"], pictures["sharp"]).mean(), rtol=1e-5)
    for kind, x in pictures.items():
        np.testing.assert_allclose(figures[f"sharpness_{kind}"], metrics.laplacian_score(x).mean(), rtol=1e-4)


def test_leaks_between_splits_are_found_and_others_are_not(tmp_path, write, crops):
    for i in range(12):
        write(f"train/{i}.png", i)
        write(f"val/{i}.png", 100 + i)
    assert not checks.examine(tmp_path).problems
    lighter = cv2.convertScaleAbs(crops(4), alpha=1.0, beta=2)
    cv2.imwrite(str(tmp_path / "val/5.jpg"), lighter)
    (tmp_path / "val/5.png").unlink()
    assert checks.examine(tmp_path).problems == ["4 in train is nearly 5 in val"]


def test_the_command_exits_with_1_where_there_are_problems(folder, write):
    done = data("check", folder)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no problems"), done.stderr
    (folder / "sharp/3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "blur/4.png").unlink()
    done = data("check", folder, "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert len(report["problems"]) == 2
    assert "3 (sharp): the picture is damaged" in report["problems"][0]
    assert "4.png: No such file" in report["problems"][1]
    assert (report["kind"], report["splits"]["train"]["examples"]) == ("pairs", 8)


def test_swapped_folders_are_noticed(folder):
    (folder / "blur").rename(folder / "other")
    (folder / "sharp").rename(folder / "blur")
    (folder / "other").rename(folder / "sharp")
    assert "are they swapped?" in checks.examine(folder).problems[0]


def test_a_contact_sheet_is_reproducible(folder):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = data("show", folder, "-o", folder.parent / f"{name}.png", "--count", 3, "--seed", seed, cwd=folder)
        assert done.returncode == 0, done.stderr
    a, b, c = ((folder.parent / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert cv2.imread(str(folder.parent / "a.png")).shape == (2 * 214 + 24 + 4, 3 * 324, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "no"], "no: no such directory"),
        (["check", "empty"], "empty: holds no pictures"),
        (["check", ".", "--sample", "0"], "--sample must be at least 1"),
        (["show", ".", "-o", "x.gif"], "cannot write .gif"),
        (["show", ".", "-o", "x.png", "--split", "val"], "no split val; train"),
        (["prepare", "no", "--manual-dir", ".", "--out", "out"], "no: no such directory; name a dataset's folder"),
        (["prepare", "empty", "--manual-dir", ".", "--out", "out"], "holds 0 files *_dataset_builder.py"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(folder, arguments, message):
    (folder / "empty").mkdir()
    done = data(*arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
