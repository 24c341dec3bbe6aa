"""The fixed set to judge by, and what networks are held against on it."""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deblur_jax import blur, cli, metrics, samples
from deblur_jax.blur import convolve, linear_to_srgb, srgb_to_linear
from deblur_jax.evaluate import grid
from deblur_jax.evaluate.baselines import baselines
from deblur_jax.pipeline import trees
from deblur_jax.restore import read_image

LIST = Path(__file__).parents[2] / "data" / "photos" / "validation.tsv"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for path in samples.PICTURES:
        shutil.copy(path, folder)
    return folder


def write(photos, out, *arguments):
    few = ["--aside", "0.99", "--side", "64", "--kinds", "sharp,gaussian"]
    return cli.main(["data", "grid", "--data", str(photos), "--out", str(out), *few, *arguments])


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "grid"
    assert write(photos, folder) == 0
    return folder


def test_every_kind_strength_noise_and_encoding_is_there(made):
    found = grid.read(made)
    assert len(found.pairs) == 4 * 32
    ways = Counter(tuple(about.values()) for about in found.pairs.values())
    assert len(ways) == 4 * 8
    assert set(ways.values()) == {4}
    listed = [example.name for example in trees.pairs(made)["train"]]
    assert sorted(listed) == sorted(found.pairs)
    groups = {by: {name: len(several) for name, several in found.groups[by].items()} for by in found.groups}
    strengths = [f"gaussian {strength}" for strength in ("light", "moderate", "heavy")]
    assert groups["blur"] == dict.fromkeys(["sharp none", *strengths], 32)
    assert groups["noise"] == {"low": 48, "high": 48}
    assert groups["encoding"] == dict.fromkeys(("srgb", "linear", "grey", "jpeg"), 24)
    about = json.loads((made / "grid.json").read_text())
    assert set(about["photographs"].values()) == {hashlib.sha256(p.read_bytes()).hexdigest() for p in samples.PICTURES}


def pair(made, name):
    return [cv2.imread(str(made / role / f"{name}.png"))[:, :, ::-1] / np.float32(255) for role in ("blur", "sharp")]


def kernels_hold(made, *kinds):
    found = grid.read(made)
    for kind in kinds:
        names = [name for name in found.pairs if f"{kind}-" in name and name.endswith("low-srgb")]
        # That with most to see: in the dark noise is more than blur.
        name = max(names, key=lambda name: np.abs(np.subtract(*pair(made, name))).mean())
        blur, sharp = pair(made, name)
        predicted = linear_to_srgb(convolve(srgb_to_linear(sharp)[None], found.kernels[name][None])[0])
        middle = np.s_[20:-20, 20:-20]  # what moved in from outside is in the blurred one alone
        error = np.abs(np.asarray(predicted) - blur)[middle].mean()
        assert error < 0.01
        assert error < 0.5 * np.abs(sharp - blur)[middle].mean() or kind == "sharp-none"


def test_the_kernel_is_what_blurred_the_picture(made):
    kernels_hold(made, "gaussian-moderate", "sharp-none")


@pytest.mark.slow
def test_so_it_is_with_shakes(photos, tmp_path):
    assert write(photos, tmp_path / "grid", "--kinds", "shake", "--side", "96") == 0
    kernels_hold(tmp_path / "grid", "shake-light", "shake-moderate", "shake-heavy")


def test_encodings_are_what_they_say(made):
    found = grid.read(made)
    kinds = {about["encoding"]: name for name, about in found.pairs.items() if about["kind"] == "gaussian"}
    blur, sharp = pair(made, kinds["grey"])
    assert np.ptp(sharp, -1).max() == 0
    assert min(sharp.min(), blur.min()) > 0.19
    assert max(sharp.max(), blur.max()) < 0.81
    # The same piece stored in two ways.
    first = {about["encoding"]: name for name, about in found.pairs.items() if "gaussian-light-00" in name}
    assert set(first) == {"srgb", "jpeg"}
    np.testing.assert_array_equal(pair(made, first["srgb"])[1], pair(made, first["jpeg"])[1])
    other = {about["encoding"]: name for name, about in found.pairs.items() if "gaussian-light-06" in name}
    assert set(other) == {"grey", "linear"}
    lifted, dark = (pair(made, other[encoding])[1] for encoding in ("grey", "linear"))
    luma = (dark ** (1 / 2.2)) @ np.float32([0.299, 0.587, 0.114])
    assert np.abs(0.2 + 0.6 * luma - lifted[..., 0]).mean() < 0.01


def test_a_photographs_name_must_be_text(photos, tmp_path, capsys):
    for path in photos.iterdir():
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(path, os.fsencode(tmp_path / "in") + b"/\xff" + os.fsencode(path.name))
    assert write(tmp_path / "in", tmp_path / "out") == 2
    assert re.search(
        r"^deblur data: .*in: .\\udcff.*\.jpg. is a name that is no plain text; rename it\n$", capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_the_same_command_writes_the_same_set(made, photos, tmp_path, capsys):
    again = tmp_path / "again"
    arguments = ["--kinds", "gaussian"]
    assert write(photos, again, *arguments) == 0
    assert write(photos, tmp_path / "third", *arguments) == 0
    files = sorted(p.relative_to(again) for p in again.rglob("*.png"))
    assert len(files) == 2 * 96
    assert all((again / p).read_bytes() == (tmp_path / "third" / p).read_bytes() for p in files)
    capsys.readouterr()
    assert write(photos, again, *arguments) == 2
    assert "exists already; a set is written once" in capsys.readouterr().err


def test_a_stopped_run_is_made_again_and_another_ones_pictures_are_refused(photos, tmp_path, nano, capsys):
    folder = tmp_path / "grid"
    arguments = ["--kinds", "gaussian"]
    assert write(photos, folder, *arguments) == 0
    for name in ("grid.json", "kernels.npz"):
        (folder / name).unlink()
    assert write(photos, folder, *arguments, "--seed", "1") == 2
    assert re.search("is no picture of this set, perhaps of another that was stopped", capsys.readouterr().err)
    assert write(photos, folder, *arguments) == 0
    one = next((folder / "blur").rglob("*.png"))
    for role in ("blur", "sharp"):
        shutil.copy(one, folder / role / "stranger.png")
    capsys.readouterr()
    command = ["eval", str(nano()), "--data", str(folder), "--no-fps", "-o", str(tmp_path / "report")]
    assert cli.main(command) == 2
    assert capsys.readouterr().err.endswith("1 pairs are not in its grid.json, such as stranger; remove them\n")
    kernels = folder / "kernels.npz"
    kernels.write_bytes(kernels.read_bytes()[:-9])
    assert cli.main(command) == 2
    assert "grid.json or kernels.npz is damaged" in capsys.readouterr().err


def test_photographs_to_test_with_alone_are_too_few(tmp_path, photos, capsys):
    shutil.copytree(photos, tmp_path / "photos" / "test")
    assert write(tmp_path / "photos", tmp_path / "grid") == 2
    assert "too few photographs to keep some aside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kinds", "shakes"], "no kind of blur is called 'shakes'; there are sharp, shake"),
        (["--aside", "1"], "--aside must be above 0 and below 1, not 1.0"),
        (["--side", "0"], "--side must be at least 1, not 0"),
        (["--side", "49"], "--side must be above 49 pixels"),
        (["--seed", "99999999999999999999"], r"--seed must be below 2\^63"),
        (["--side", "2000"], "too small for a piece of 2048x2048"),
        (["--list", "nothing.tsv"], "nothing.tsv"),
        (["--list", "LIST"], "is in .* but not among the photographs kept aside"),
        (["--list", "WRONG"], "is not the file that .* names: its sha256 differs"),
        (["--list", "BROKEN"], "must have lines of a name and a sha256"),
    ],
)
def test_mistakes_get_one_line_each(arguments, message, photos, tmp_path, capsys):
    (tmp_path / "broken").write_bytes(b"\xff\xfe\n")
    (tmp_path / "wrong").write_text("name\tsha256\nfig.jpg\t00\n")
    files = {"LIST": LIST, "BROKEN": tmp_path / "broken", "WRONG": tmp_path / "wrong"}
    assert write(photos, tmp_path / "out", *(str(files.get(a, a)) for a in arguments)) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.count("\n") == 1
    assert not (tmp_path / "out" / "grid.json").exists()


def test_the_committed_list_is_what_the_rule_keeps_aside():
    lines = [line.split("\t") for line in LIST.read_text().splitlines()[1:]]
    assert len(lines) > 50
    assert all(trees.is_kept_aside(name.rsplit(".", 1)[0], 0.2) for name, _ in lines)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for _, digest in lines)


def test_lucys_method_helps_where_single_precision_swings_up():
    """In single precision this kernel spoiled the picture, by some 20 dB."""
    sharp = jnp.asarray(read_image(samples.PICTURES[1])[None, 100:356, 100:356])
    kernel = blur.trajectory_kernel(blur.random_trajectory(jax.random.key(4), extent=17.0), size=49)
    light = convolve(srgb_to_linear(sharp), kernel[None])
    blurred = np.rint(255 * np.asarray(linear_to_srgb(jnp.clip(light, 0, 1)))[0]).astype(np.uint8)
    told = grid.Grid({"one": {"kind": "shake", "encoding": "srgb"}}, {"one": np.asarray(kernel)})
    restored = baselines(told)["richardson-lucy-oracle"][1]([blurred], ["one"])[0]
    before, after = (metrics.psnr(jnp.asarray(p[None] / np.float32(255)), sharp)[0] for p in (blurred, restored))
    assert after > before + 2


@pytest.mark.slow
def test_the_report_has_the_groups_and_the_baselines(made, nano, tmp_path, capsys):
    out = tmp_path / "report"
    arguments = [
        "eval",
        nano("mild.safetensors"),
        "--data",
        made,
        "--no-fps",
        "--baselines",
        "-o",
        out,
    ]
    assert cli.main([str(a) for a in arguments]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^gaussian heavy +32 ", printed, re.M)
    report = json.loads((out / "report.json").read_text())
    rows = ["blurry", "mild", "unsharp", "wiener-oracle", "richardson-lucy-oracle", "sharp"]
    assert list(report["rows"]) == rows
    assert report["rows"]["unsharp"]["baseline"].startswith("unsharp masking")
    groups = {group["name"]: group for by in report["groups"].values() for group in by}
    assert groups["gaussian moderate"]["pictures"] == 32
    picked = [p for p in report["pictures"] if "gaussian-moderate" in p["name"]]
    gains = [p["scores"]["wiener-oracle"]["psnr"] - p["scores"]["blurry"]["psnr"] for p in picked]
    said = groups["gaussian moderate"]["rows"]["wiener-oracle"]
    assert said["psnr"]["gain"] == pytest.approx(np.mean(gains))
    assert said["worst_gain"] == pytest.approx(min(gains))
    assert said["better"] == np.mean(np.array(gains) > 0)
    # Whoever knows the kernel does better, and leaves sharp pictures as they are.
    light = groups["gaussian moderate"]["rows"]
    assert light["richardson-lucy-oracle"]["psnr"]["gain"] > light["unsharp"]["psnr"]["gain"]
    assert groups["sharp none"]["rows"]["wiener-oracle"]["psnr"]["gain"] == 0
    page = (out / "index.html").read_text()
    assert "By kind of blur, noise and encoding" in page
    assert "Richardson and Lucy" in page
    assert "gaussian heavy" in page


def test_without_a_grid_only_unsharp_masking_and_a_damaged_index_is_said(pairs, nano, tmp_path, capsys):
    data = pairs()
    arguments = ["eval", nano("mild.safetensors"), "--data", data, "--no-fps", "--baselines", "-o", tmp_path / "report"]
    assert cli.main([str(a) for a in arguments]) == 0
    rows = json.loads((tmp_path / "report" / "report.json").read_text())["rows"]
    assert list(rows) == ["blurry", "mild", "unsharp", "sharp"]
    (data / "grid.json").write_text("{")
    assert cli.main([str(a) for a in [*arguments[:-1], tmp_path / "other"]]) == 2
    assert "grid.json or kernels.npz is damaged" in capsys.readouterr().err
