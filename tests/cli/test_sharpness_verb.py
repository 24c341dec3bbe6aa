"""`deblur sharpness`: the table, CSV, maps, bad files, mistakes."""

import csv
import io

import cv2
import numpy as np
import pytest

from deblur_jax import samples
from deblur_jax.cli import main
from deblur_jax.restore import read_image, write_image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A sharp and two blurred pictures, one of them in a subfolder, and things that are none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    photo = cv2.resize(read_image(samples.PICTURES[-1]), (480, 320), interpolation=cv2.INTER_AREA)
    for name, sigma in (("sharp.png", 0), ("sub/soft.png", 2), ("softest.png", 9)):
        pixels = cv2.GaussianBlur(photo, (0, 0), sigma) if sigma else photo
        write_image(tmp_path / "in" / name, np.round(pixels * 255).astype(np.uint8))
    write_image(tmp_path / "in" / "grey.png", np.full((40, 40), 99, np.uint8))
    (tmp_path / "in" / "notes.txt").write_text("nothing")
    return tmp_path


def test_the_table_goes_from_blurred_to_sharp(folder, capsys):
    assert main(["sharpness", "in"]) == 0
    out, err = capsys.readouterr()
    rows = out.splitlines()[1:]
    assert [row.split()[-1] for row in rows] == ["in/grey.png", "in/softest.png", "in/sub/soft.png", "in/sharp.png"]
    kinds = ["no detail", "too blurred", "blurred", "sharp"]
    assert all(f"  {kind} " in row for kind, row in zip(kinds, rows, strict=True))
    expected = "4 pictures: 1 sharp, 1 blurred, 1 too blurred, 1 no detail; other files passed over: 1"
    assert err.splitlines()[-1] == expected


def test_csv_and_a_threshold_of_ones_own(folder, capsys):
    assert main(["sharpness", "in/s*.png", "--csv", "-", "--sort", "name", "--threshold", "0"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["file"] for row in rows] == ["in/sharp.png", "in/softest.png"]
    assert {row["verdict"] for row in rows} == {"sharp"}
    assert float(rows[0]["score"]) > float(rows[1]["score"])
    assert float(rows[0]["blur_px"]) < float(rows[1]["blur_px"])
    assert (rows[0]["width"], rows[0]["height"]) == ("480", "320")
    assert main(["sharpness", "in", "--csv", "table.csv"]) == 0
    assert (folder / "table.csv").read_text().count("\n") == 5
    assert main(["sharpness", "in", "--csv", "table.csv"]) == 2
    assert "table.csv: exists already; --overwrite replaces it" in capsys.readouterr().err


def test_maps_lie_as_the_pictures_do(folder, capsys):
    assert main(["sharpness", "in", "--map", "maps"]) == 0
    sharp, soft = (read_image(folder / "maps" / f"{name}.sharpness.png") for name in ("sharp.png", "sub/soft.png"))
    assert sharp.shape == soft.shape == (320, 480, 3)
    assert sharp.mean() > soft.mean()
    assert main(["sharpness", "in", "--map", "maps"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_bad_files_get_a_line_each_and_the_others_are_done(folder, capsys):
    (folder / "in" / "cut.png").write_bytes((folder / "in" / "sharp.png").read_bytes()[:999])
    (folder / "in" / "text.jpg").write_text("hello")
    assert main(["sharpness", "in", "--max-pixels", "0.2"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    said = [line for line in err.splitlines() if line.startswith("deblur sharpness: ")]
    assert len(said) == 2
    assert said[0].startswith("deblur sharpness: in/cut.png: the picture is damaged")
    assert said[1].startswith("deblur sharpness: in/text.jpg: not a PNG")
    assert main(["sharpness", "in/sharp.png", "--max-pixels", "0.1"]) == 1
    assert "in/sharp.png: 480x320 pixels are more than the limit of 0.1 million" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "nothing: no such file or directory"),
        (["*.gif"], "*.gif: matches no files"),
        (["empty"], "no pictures in empty"),
        (["in", "--threshold", "2"], "--threshold is a score from 0 to 1, not 2"),
        (["in", "--jobs", "0"], "--jobs must be 1 or more, not 0"),
        (["in", "--max-pixels", "0"], "--max-pixels must be above 0, not 0"),
        (["in", "--map", "in/notes.txt"], "in/notes.txt"),
        (["in", "--csv", "in"], "in: is a directory, name a file"),
        (["in", "in/sub/soft.png", "in/sharp.png", "other/sharp.png", "--map", "m"], "two pictures have the same name"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(folder, capsys, arguments, complaint):
    (folder / "empty").mkdir()
    (folder / "other").mkdir()
    (folder / "other" / "sharp.png").write_bytes((folder / "in" / "sharp.png").read_bytes())
    assert main(["sharpness", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert complaint in err


def test_maps_of_an_earlier_run_are_no_pictures(folder, capsys):
    for passed_over in ("", "; maps passed over: 4"):
        assert main(["sharpness", "in", "--map", "in/maps", "--overwrite"]) == 0
        said = capsys.readouterr().err
        assert said.startswith("4 pictures: ")
        assert said.rstrip().endswith(passed_over or "passed over: 1")
    assert main(["sharpness", "in/maps"]) == 2
    assert "no pictures in in/maps but 4 maps (*.sharpness.png)" in capsys.readouterr().err
    assert len(list((folder / "in" / "maps").rglob("*.png"))) == 4
    assert main(["sharpness", "in/maps/sharp.png.sharpness.png"]) == 0
    assert capsys.readouterr().err.startswith("1 pictures: ")


def test_a_limit_beyond_all_numbers_is_none(folder):
    assert main(["sharpness", "in", "--max-pixels", "1e308"]) == 0
