"""The command: its report, its tables, and what it refuses."""

import csv
import html.parser
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from deblur_jax import cli
from deblur_jax.cli.eval import labels_of
from deblur_jax.evaluate.scores import SCORES
from deblur_jax.weights import read_tensors


class _Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes["src"])
        self.links += [tag] if tag in ("link", "script", "a", "iframe") else []

    def handle_data(self, data):
        self.text += data


def deblur_eval(*arguments):
    return cli.main(["eval", *map(str, arguments)])


def test_the_report(pairs, nano, tmp_path, capsys):
    data = pairs({"a<b": 3, "two": 2})
    models = nano("mild.safetensors"), nano("strong.safetensors", seed=1, scale=0.3)
    assert deblur_eval(*models, "--data", data, "-o", tmp_path / "out", "--fps-size", "64x48") == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:-1]] == ["blurry", "mild", "strong", "sharp"]

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["rows"]) == ["blurry", "mild", "strong", "sharp"]
    assert report["pictures_scored"] == 5
    assert report["sequences_scored"] == 2
    assert set(SCORES) <= set(report["protocols"])
    assert report["rows"]["mild"]["speed"]["frames_per_second"] > 0
    assert [part["pictures"] for part in report["strengths"]] == [2, 2, 1]
    for score in SCORES:
        values = [picture["scores"]["mild"][score] for picture in report["pictures"]]
        gains = np.subtract(values, [picture["scores"]["blurry"][score] for picture in report["pictures"]])
        said = report["rows"]["mild"]["scores"][score]
        assert said["mean"] == pytest.approx(np.mean(values))
        assert said["gain"] == pytest.approx(np.mean(gains))
        assert said["gain_interval"][0] <= said["gain"] <= said["gain_interval"][1]
        assert report["sequences"]["two"]["rows"]["mild"][score] == pytest.approx(np.mean(values[3:]))
    sharpness = [picture["scores"]["sharp"] for picture in report["pictures"]]
    assert report["rows"]["sharp"]["scores"]["laplacian"]["mean"] == np.mean([s["laplacian"] for s in sharpness])

    # The blurry row is what OpenCV says of the files.
    before, after = (cv2.imread(str(data / side / "two" / "001.png")).astype(float) for side in ("blur", "sharp"))
    psnr = -10 * np.log10(np.mean((before - after) ** 2) / 255**2)
    assert report["pictures"][4]["scores"]["blurry"]["psnr"] == pytest.approx(psnr, abs=1e-3)

    # The tables hold the same numbers to the last digit.
    with open(tmp_path / "out" / "pictures.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 * 4
    by_name = {picture["name"]: picture for picture in report["pictures"]}
    for line in lines:
        for score, value in by_name[line["picture"]]["scores"][line["row"]].items():
            assert float(line[score]) == value
    with open(tmp_path / "out" / "videos.csv", newline="") as file:
        for line in csv.DictReader(file):
            for score, value in report["sequences"][line["sequence"]]["rows"][line["row"]].items():
                assert float(line[score]) == value

    # Everything is in the page. Typical: three cases of four rows, each with its edges; best and worst: two each.
    text = (tmp_path / "out" / "index.html").read_text()
    page = _Page(text)
    assert len(page.images) == 3 * (1 + 2 * 4) + 4 * (1 + 4)
    assert all(source.startswith("data:image/") for source in page.images)
    assert not page.links
    assert "http" not in text
    assert text.count("<svg") == 4
    assert "a<b/001" in page.text  # escaped in the source
    for word in ("Quality against cost", "By strength of blur", "Best and worst", "By video", "frames/s"):
        assert word in page.text


def test_loose_pictures_a_limit_and_what_fails(pairs, nano, tmp_path, capsys):
    """A picture that cannot be scored is named; the others are done. Nothing is replaced unasked."""
    data, model = pairs({"": 9}), nano("best.safetensors")
    (data / "blur" / "004.png").write_bytes(b"\x89PNG\r\n\x1a\n?")
    cv2.imwrite(str(data / "blur" / "001.png"), np.zeros((70, 80, 3), np.uint8))
    cv2.imwrite(str(data / "blur" / "007.png"), cv2.imread(str(data / "sharp" / "007.png")))  # not blurred at all
    arguments = model, "--data", data, "-o", tmp_path / "out", "--no-fps"
    assert deblur_eval(*arguments, "--limit", 3, "--json") == 1
    out, err = capsys.readouterr()
    assert "deblur eval: 001: the blurred and the sharp picture differ in size: 80x70 and 80x64\n" in err
    assert "deblur eval: 004 (blurred): the picture is damaged" in err
    report = json.loads(out)
    assert [picture["name"] for picture in report["pictures"]] == ["007"]
    assert len(report["failed"]) == 2
    assert report["pictures"][0]["scores"]["blurry"]["psnr"] is None
    # Equal pictures are infinitely alike; the harm done to one counts from 60 dB on.
    found = report["pictures"][0]["scores"][tmp_path.name]["psnr"]
    assert report["rows"]["blurry"]["scores"]["psnr"]["mean"] == 60
    assert report["rows"][tmp_path.name]["scores"]["psnr"]["gain"] == pytest.approx(found - 60)
    assert found < 60
    assert report["rows"][tmp_path.name]["scores"]["psnr"]["interval"] is None
    assert report["rows"][tmp_path.name]["speed"] is None
    assert "Not scored" in (tmp_path / "out" / "index.html").read_text()
    assert deblur_eval(*arguments) == 2
    assert "exists already; --overwrite replaces the report" in capsys.readouterr().err


def test_names_that_are_no_text(pairs, nano, tmp_path, capsys):
    """All files of the report are written."""
    data = pairs({"": 2})
    for side in ("blur", "sharp"):
        (data / side / "000.png").rename(os.fsdecode(os.fsencode(data / side) + b"/bad\xff.png"))
    assert deblur_eval(nano(), "--data", data, "-o", tmp_path / "out", "--no-fps") == 0
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert "bad\\udcff" in (tmp_path / "out/index.html").read_text()


def test_it_says_which_network_failed(pairs, nano, tmp_path, capsys):
    tensors, about = read_tensors(nano("good.safetensors")), tmp_path / "wild.safetensors"
    nano(about.name)
    with safe_open(about, "numpy") as file:
        metadata = file.metadata()
    save_file({name: 1e9 * value for name, value in tensors.items()}, about, metadata=metadata)
    data = pairs({"": 1})
    assert deblur_eval(tmp_path / "good.safetensors", about, "--data", data, "-o", tmp_path / "out", "--no-fps") == 2
    assert "000: wild: the network answers with values that are no numbers" in capsys.readouterr().err


def test_a_damaged_picture_called_as_its_folder_leaves_the_others(pairs, nano, tmp_path, capsys):
    data = pairs({"000": 3, "b": 1})
    (data / "blur" / "000" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n?")
    assert deblur_eval(nano(), "--data", data, "-o", tmp_path / "out", "--no-fps", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert [picture["name"] for picture in report["pictures"]] == ["000/001", "000/002", "b/000"]
    assert list(report["failed"]) == ["000"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "none"], "none: no such directory"),
        (["--data", "photos"], "holds photos without blurred ones"),
        (["--data", "data", "--split", "val"], "no split val; there are train"),
        (["--data", "mixed"], r"holds pictures \(blur/000.png\) and clips \(blur/a.mp4\); give each kind a folder"),
        (["--data", "clips", "--split", "val"], "clips: holds clips, which have no splits: leave out --split val"),
        (["--data", "data", "--limit", "0"], "--limit must be at least 1"),
        (["--data", "data", "--fps-size", "720p"], "a width and a height such as 1280x720, not 720p"),
        (["other.safetensors", "--data", "data"], r"does not fit nano: head/kernel has the shape \(3, 3, 3, 5\)"),
        (["broken.safetensors", "--data", "data"], "not a whole safetensors file"),
        (["large", "--data", "data"], "its weights do not come with the package"),
        (["--data", "data", "-o", "mild.safetensors"], "is a file, name a folder"),
        (
            ["--data", "data", "-o", "there", "--overwrite"],
            "index.html: is a folder, the report has a file",
        ),
        (["--data", "data", "-o", "mild.safetensors/report"], "mild.safetensors: is a file, name a folder"),
    ],
)
def test_mistakes_get_one_line(arguments, message, pairs, nano, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs()
    pairs(root="photos")
    Path("there/index.html").mkdir(parents=True)
    pairs(root="mixed")
    for path in [Path(root, side, "a.mp4") for root in ("mixed", "clips") for side in ("blur", "sharp")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in (tmp_path / "photos" / "blur").iterdir():
        path.unlink()
    (tmp_path / "photos" / "blur").rmdir()
    (tmp_path / "photos" / "sharp").rename(tmp_path / "photos" / "pictures")
    tensors = read_tensors(nano()) | {"head/kernel": np.zeros((3, 3, 3, 5), np.float32)}
    about = {"format": "deblur_jax 1", "network": "nano", "merged": "true", "variant": "{}", "card": "{}"}
    save_file(tensors, "other.safetensors", metadata=about)
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    if not arguments[0].endswith((".safetensors", "nano")):
        arguments = ["mild.safetensors", *arguments]
    assert deblur_eval("-o", "out", "--no-fps", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()


def test_labels_are_unique():
    models = ["runs/a/best.safetensors", "runs/b", "x/a.safetensors", "blurry.safetensors", "y/v1.5", "nano"]
    models += ["nano+runs/a/best.safetensors", "nano+small"]
    assert labels_of(models) == ["a", "b", "a-2", "blurry-2", "v1.5", "nano", "nano+a", "nano+small"]
    assert labels_of(["caf\udce9.safetensors"]) == ["caf\\udce9"]  # which a report can hold
